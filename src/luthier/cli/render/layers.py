"""Tiers B and C of the prediction trace in the terminal: embedding, logit lens, where the adapter acts, attention, and the why.

What it does: draws a reply of ``POST /v1/luthier/trace`` (``core/prediction.py``). What it does not: probabilities and paths
(``prediction.py``). Called by ``cli/trace.py``.
"""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from luthier.cli.render.text import bar, literal, token_text

_LENS_COLUMNS = 6
_HEAVIEST = 6
_BAR = 12


def layers(told: dict[str, Any]) -> RenderableType:
    """Everything beyond the probabilities that the reply holds, and a line for each part that it lacks."""
    parts: list[RenderableType] = []
    if told["embedding"] is not None:
        parts += [_title("Embedding: length of the vector of each prompt token"), _norms(told)]
    if told["layers"] is not None:
        parts += [_title("Layers: the most probable next token after each block (logit lens)"), _lens(told)]
        parts += [_title("Blocks of the tuned model: where attention, MLP and adapter act"), _blocks(told)]
    if told["attention"] is not None:
        at = told["attention"]
        parts += [
            _title(f"Attention of layer {at['layer']}, mean of {at['heads']} heads: what each answer token looks at"),
            _attention(told),
        ]
    if told["why"] is not None and told["why"]["most_shifted"]:
        parts += [_title("Why: the tokens that tuning shifted most"), _why(told)]
    if told["nearest"]:
        parts += [_title("Training rows with similar words: similar, not proof"), _nearest(told["nearest"])]
    parts += [Text(f"{m['tier']}: {m['reason']}", style="dim italic") for m in told["missing"] if m["reason"] != "Not asked for."]
    return Group(*parts)


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _grid(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in names:
        table.add_column(literal(name), no_wrap=True, overflow="ellipsis")
    return table


def _norms(told: dict[str, Any]) -> Text:
    line = Text()
    for token, norm in zip(told["prompt_tokens"], told["embedding"]["norms"], strict=True):
        line.append(f"{token_text(token['text'])} ")
        line.append(f"{norm:.2f}  ", style="dim")
    return line


def _lens(told: dict[str, Any]) -> Table:
    """The first places that predict the answer, a column each."""
    found, start = told["layers"], len(told["prompt_tokens"]) - 1
    columns = [i for i, position in enumerate(found["positions"]) if position >= start][:_LENS_COLUMNS]
    texts = [found["sequence"][found["positions"][i] + 1]["token"] for i in columns if found["positions"][i] + 1 < len(found["sequence"])]
    columns = columns[: len(texts)]
    table = _grid("layer", *(f"-> {token_text(text)}" for text in texts))
    for layer in range(found["count"] - 1, -1, -1):
        cells: list[Text] = []
        for i in columns:
            token = found["tuned"]["top"][layer][i]
            probability = found["tuned"]["probability"][layer][i]
            settled = layer >= found["tuned"]["settled"][i]
            shown = f"{token_text(found['tokens'][str(token)])} {probability:.2f}" if probability is not None else "-"
            cells.append(Text(shown + (" *" if settled else ""), style="bold green" if settled else "dim"))
        table.add_row(str(layer), *cells)
    table.caption = "* the final token, on top from here on"
    return table


def _blocks(told: dict[str, Any]) -> Table:
    side = told["layers"]["tuned"]
    table = _grid("layer", "attention's share", "", "adapter's strongest change", "")
    for layer in range(told["layers"]["count"]):
        share = side["attention_share"][layer] if side["attention_share"] is not None else None
        changes = [c for c in told["adapter"] or () if c["layer"] == layer and c["relative_change"] is not None]
        strongest = max(changes, key=lambda c: c["relative_change"], default=None)
        table.add_row(
            str(layer),
            "-" if share is None else f"{share:.2f}",
            "" if share is None else bar(share, _BAR),
            "-" if strongest is None else f"{100 * strongest['relative_change']:.2f} %",
            Text() if strongest is None else literal(strongest["module"]),
        )
    return table


def _attention(told: dict[str, Any]) -> Table:
    at, prompt = told["attention"], [token["text"] for token in told["prompt_tokens"]]
    path = [step["token"] for step in told["tuned"]["path"]] if told["tuned"] is not None else []
    texts = [entry["token"] for entry in told["layers"]["sequence"]] if told["layers"] is not None else [*prompt, *path]
    table = _grid("answer", "looks at")
    for query, row in list(zip(at["queries"], at["mean"], strict=True))[:_LENS_COLUMNS]:
        best = sorted(range(len(row)), key=lambda i: -row[i])[:_HEAVIEST]
        looked = "  ".join(f"{token_text(texts[i]) if i < len(texts) else i} {row[i]:.2f}" for i in best)
        table.add_row(Text(token_text(texts[query + 1]) if query + 1 < len(texts) else "-"), Text(looked))
    return table


def _why(told: dict[str, Any]) -> Table:
    first = {entry["index"]: entry for entry in told["why"]["first_layers"]}
    table = _grid("token", "log-probability", "base", "change", "on top from layer", "in the base")
    for shifted in told["why"]["most_shifted"]:
        entry = first.get(shifted["index"], {"tuned_layer": None, "base_layer": None})
        seen = [("never" if first else "-") if entry[k] is None else str(entry[k]) for k in ("tuned_layer", "base_layer")]
        numbers = [f"{shifted[k]:.2f}" for k in ("tuned_logprob", "base_logprob")]
        table.add_row(Text(token_text(shifted["text"])), *numbers, f"{shifted['change']:+.2f}", *seen)
    return table


def _nearest(rows: list[dict[str, Any]]) -> Table:
    table = _grid("line", "similarity", "prompt", "answer")
    for row in rows:
        table.add_row(
            str(row["line"]), f"{row['similarity']:.2f}", literal(row["prompt"], max_length=40), literal(row["answer"], max_length=30)
        )
    return table
