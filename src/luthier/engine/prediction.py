"""Layers 2 and 3 of a prediction trace, from probes of the models: embedding, logit lens, adapter, attention.

What it does: chooses which places are traced within the bounds, runs the probes in pieces, and turns figures into the nouns of
``core/prediction.py``. What it does not: generate (``walk.py``), render, load models. Called by ``deployment/tracing.py``.

Axis letters: T tokens of prompt and answer, N traced places, L blocks, H heads.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from luthier.core.prediction import AdapterChange, Attention, Embedding, Layers, LayerSide, Neighbour, settled_layer, short
from luthier.engine.sequence import TokenNames
from luthier.models.language_model import LanguageModel
from luthier.models.probe import Probe, nearest_tokens

MAX_LENS_PLACES = 128
"""More columns than anybody reads; each costs the output matrix once per layer."""
MAX_LENS_CELLS = 3500
"""Layers times places of one model's lens: keeps the answer small."""
MAX_LENS_OPERATIONS = 2e11
"""Multiplications of one model's lens beyond the answer's own places: keeps it within seconds on two CPU cores."""
NEIGHBOURS = 8
_ATTENTION_DIGITS = 4
_LAYER = re.compile(r"\.(\d+)\.(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The traced places of prompt + answer, and how many that would be worth tracing are left out."""

    positions: tuple[int, ...]
    left_out: int


def lens_places(model: LanguageModel, num_prompt: int, num_answer: int) -> Places:
    """The last places before the end of the answer, as many as the bounds allow; those that predict the answer come first."""
    facts = model.facts
    last = num_prompt + num_answer - 1
    per_place = 2.0 * max(1, facts.num_layers) * facts.vocab_size * facts.hidden_size
    affordable = max(num_answer, int(MAX_LENS_OPERATIONS / per_place))
    count = max(1, min(last, affordable, MAX_LENS_PLACES, MAX_LENS_CELLS // max(1, facts.num_layers)))
    # The newest places of the prompt stand before the answer's own; of a too long answer its beginning is kept.
    start = max(0, min(num_prompt - 1, last - count))
    return Places(positions=tuple(range(start, start + count)), left_out=last - count)


def probed(
    model: LanguageModel, adapter: str | None, ids: Sequence[int], positions: Sequence[int], *, attention_layer: int | None = None
) -> Iterator[Probe | None]:
    """None after each piece, and last the probe; nothing at all for a model that cannot be looked into."""
    yield from model.probe(ids, adapter, positions, attention_layer=attention_layer)


def _shorts(values: Tensor | None) -> tuple[float | None, ...] | None:
    return None if values is None else tuple(short(v) for v in values.tolist())


def layer_side(probe: Probe, targets: Sequence[int | None]) -> LayerSide:
    """A probe as it is told."""
    top_NL = probe.top_LN.t().tolist()
    attention, mlp = probe.attention_norm_L, probe.mlp_norm_L
    share = None if attention is None or mlp is None else attention / (attention + mlp).clamp(min=1e-12)
    residual = _shorts(probe.residual_norm_L)
    assert residual is not None
    return LayerSide(
        top=tuple(tuple(row) for row in probe.top_LN.tolist()),
        probability=tuple(tuple(short(p) for p in row) for row in probe.probability_LN.tolist()),
        settled=tuple(settled_layer(top_L) for top_L in top_NL),
        appears=tuple(_first(top_L, target) for top_L, target in zip(top_NL, targets, strict=True)),
        residual_norm=residual,
        attention_norm=_shorts(attention),
        mlp_norm=_shorts(mlp),
        attention_share=_shorts(share),
    )


def _first(top_L: Sequence[int], target: int | None) -> int | None:
    return next((layer for layer, token in enumerate(top_L) if token == target), None)


def shown(names: TokenNames, token: int) -> str:
    """A token alone as one can read it: its text, or where that is a part of a character its bytes, as in ``<0xE2 0x80>``."""
    text = names.token_text(token)
    return f"<{' '.join(f'0x{byte:02X}' for byte in names.token_bytes(token))}>" if "\ufffd" in text else text


def layers_of(names: TokenNames, ids: Sequence[int], positions: Sequence[int], tuned: Probe, base: Probe | None) -> Layers:
    """The lens of one or two models over the same tokens."""
    targets = tuple(ids[p + 1] if p + 1 < len(ids) else None for p in positions)
    seen = {int(i) for probe in (tuned, base) if probe is not None for i in probe.top_LN.unique().tolist()}
    return Layers(
        count=int(tuned.top_LN.shape[0]),
        positions=tuple(positions),
        sequence=tuple({"id": i, "token": names.token_text(i)} for i in ids),
        targets=targets,
        tokens={str(i): shown(names, i) for i in sorted(seen)},
        tuned=layer_side(tuned, targets),
        base=None if base is None else layer_side(base, targets),
    )


def embedding_of(model: LanguageModel, names: TokenNames, prompt_ids: Sequence[int], probe: Probe, token: int | None) -> Embedding:
    """Norms of the prompt's tokens, and the neighbours of one of them."""
    norms = tuple(short(v) or 0.0 for v in probe.embedding_norms_T[: len(prompt_ids)].tolist())
    vectors = model.token_vectors()
    neighbours = None
    if token is not None and vectors is not None:
        found = nearest_tokens(vectors, prompt_ids[token], NEIGHBOURS)
        neighbours = tuple(Neighbour(id=i, token=shown(names, i), cosine=short(c) or 0.0) for i, c in found)
    return Embedding(norms=norms, token=token, neighbours=neighbours)


def adapter_of(model: LanguageModel, adapter: str) -> tuple[AdapterChange, ...]:
    """Where the adapter acts, and how strongly."""
    found: list[AdapterChange] = []
    for name, change in model.adapter_changes(adapter):
        match = _LAYER.search(f".{name}")
        layer, module = (int(match[1]), match[2]) if match else (None, name)
        found.append(AdapterChange(layer=layer, module=module, relative_change=short(change)))
    return tuple(found)


def attention_of(weights_HTT: Tensor, layer: int, num_prompt: int, budget: int) -> tuple[Attention, str | None]:
    """The attention of the places that predict the answer, within ``budget`` bytes of JSON; and what was left out, in words.

    The mean over the heads comes first; single heads get what is left, the place of the first token first.
    """
    heads, size, _ = weights_HTT.shape
    queries = tuple(range(num_prompt - 1, size - 1)) or (size - 1,)
    mean, used = _rows(weights_HTT.mean(dim=0), queries, budget)
    singles: list[list[tuple[float, ...]]] = [[] for _ in range(heads)]
    alone: list[int] = []
    for query in queries[: len(mean)]:
        rows = [_row(weights_HTT[head, query], query) for head in range(heads)]
        cost = len(json.dumps(rows))
        if used + cost > budget:
            break
        used += cost
        alone.append(query)
        for head, row in enumerate(rows):
            singles[head].append(row)
    cut = None
    if len(alone) < len(queries):
        cut = (
            f"Attention is shown for {len(mean)} of the {len(queries)} places that predict the answer, and head by head for {len(alone)}, "
            "so that the answer stays small."
        )
    told = Attention(
        layer=layer,
        heads=heads,
        keys=size,
        queries=queries[: len(mean)],
        mean=tuple(mean),
        per_head_queries=tuple(alone),
        per_head=tuple(tuple(rows) for rows in singles),
    )
    return told, cut


def _row(weights_T: Tensor, query: int) -> tuple[float, ...]:
    return tuple(float(f"{w:.{_ATTENTION_DIGITS}g}") for w in weights_T[: query + 1].tolist())


def _rows(weights_TT: Tensor, queries: Sequence[int], budget: int) -> tuple[list[tuple[float, ...]], int]:
    rows: list[tuple[float, ...]] = []
    used = 0
    for query in queries:
        row = _row(weights_TT[query], query)
        cost = len(json.dumps(row))
        if used + cost > budget:
            break
        rows.append(row)
        used += cost
    return rows, used
