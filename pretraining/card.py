"""Step 6: the model card, from the run's own record and measured results; no number in it is typed by hand.

What it does: fill ``data/card.md`` and write it as ``README.md`` into a model folder. What it does not: measure. Run:
``python -m pretraining.card --run FILE --results FILE --out DIR``.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pretraining import corpus
from pretraining.errors import run_script
from pretraining.evaluation import base_model, reference, speed, tasks
from pretraining.evaluation.method_tables import FORMALITY_HEADERS, FORMALITY_WORDS, formality_rows
from pretraining.evaluation.readmes import reference_table
from pretraining.evaluation.results import Results
from pretraining.evaluation.statistics import paired_bootstrap, share, unpack_hits
from pretraining.evaluation.tables import percent, table
from pretraining.record import read_record

_PATHS = {"cpu": "on the CPU path (two cores, no GPU)", "cuda": "on the GPU path (one GPU)"}
ATTRIBUTION = "ATTRIBUTION_storybooks.tsv"


def card(run: dict[str, Any], model: Path, results: Results) -> str:
    """The whole card: from the run's record (``record.py``), the model's files and the results."""
    return (
        (corpus.DATA / "card.md")
        .read_text(encoding="utf-8")
        .format(
            facts=_facts(model),
            tokens=f"{run['tokens'] / 1e6:.1f} million",
            path=_PATHS[run["device"]],
            mixture=_mixture(run["tokens_of_part"]),
            recipe=_recipe(run),
            machine=_machine(results),
            length=_length(run["longest_block"], model),
            figures="\n\n".join(
                part for part in (_base(results), _reference(results), _tasks(results), _formality(results), _speed(results)) if part
            ),
        )
    )


def _facts(model: Path) -> str:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    with safe_open(model / "model.safetensors", "np") as file:
        sizes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no mapping
    number = sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes)
    shape = (
        f"Llama: {config['num_hidden_layers']} layers, width {config['hidden_size']}, {config['num_attention_heads']} heads of "
        f"{config['head_dim']}, SwiGLU {config['intermediate_size']}, RMSNorm 1e-5, RoPE {config['rope_theta']:,.0f}, tied embeddings"
    )
    rows = [
        ("architecture", shape),
        ("parameters", f"{number / 1e6:.2f} million, bfloat16: {(model / 'model.safetensors').stat().st_size / 1e6:.1f} MB"),
        ("tokenizer", f"byte-level BPE, {config['vocab_size']:,} entries, 32 of them special; digits stand alone"),
        (
            "chat template",
            "`<|user|>text<|end|>` for every message, `<|assistant|>` as the generation prompt; tools and tool calls are rendered",
        ),
        ("context", f"{config['max_position_embeddings']} tokens"),
        ("licence of these weights and this tokenizer", "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)"),
    ]
    return table(("", ""), rows)


def _length(longest: int, model: Path) -> str:
    most = json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    words = f"It has been trained on blocks of at most {longest} tokens."
    return words if longest >= most else f"{words} It reads {most}, and gets worse towards the end of that."


def _mixture(tokens: dict[str, int]) -> str:
    names = {
        "text_en": "English text",
        "text_fr": "French text",
        "pairs_all": "sentence pairs, every translation",
        "pairs_canonical": "sentence pairs, one translation for each English sentence",
        "pairs_short": "sentence pairs of at most six words",
        "tasks": "task-shaped rows",
    }
    total = sum(tokens.values())
    ordered = sorted(tokens.items(), key=lambda item: -item[1])
    return "\n".join(f"- {names[part]}: {percent(count / total)}" for part, count in ordered)


def _recipe(run: dict[str, Any]) -> str:
    recipe = run["recipe"]
    parts = [key for key in run["held_out"][-1] if key != "tokens"]
    rows = [[f"{held['tokens'] / 1e6:.1f} M", *(f"{held[part]:.2f}" for part in parts)] for held in run["held_out"]]
    dropout = f"dropout {recipe['dropout']}; " if recipe.get("dropout") else ""
    words = (
        f"Muon on the matrices of the layers (peak rate {recipe['learning_rate']}, momentum {recipe['momentum']}), AdamW "
        f"{tuple(recipe['betas'])} on the rest ({recipe['embedding_rate']}), weight decay {recipe['weight_decay']}; "
        f"{recipe['warmup_steps']} steps of warm-up, flat, linear to 0 over the last {percent(recipe['decay_share'])}; "
        f"{run['steps']:,} steps of {recipe['batch_tokens']:,} tokens; {recipe['arithmetic']} "
        f"arithmetic over float32 weights; {dropout}gradient clip {recipe['clip']}; {run['seconds'] / 60:.0f} minutes. Loss on held-out "
        "rows (nats per token) after so many tokens:"
    )
    return f"{words}\n\n{table(['tokens', *(part.replace('_', ' ') for part in parts)], rows)}"


def _machine(results: Results) -> str:
    where = results.machine_of(base_model.NAME)
    return f"Machine: {where['processor']}, {where['cores']} cores."


def _base(results: Results) -> str:
    stored = results.of(base_model.NAME)
    translation = stored["translation"]
    rows = [
        (
            "held-out pairs of at most 8 English words, frame `EN: ... FR:`, greedy: chrF2",
            f"{translation['chrf']:.1f} (n = {translation['n']})",
        ),
        ("the same: exactly right", percent(translation["right"] / translation["n"])),
        ("all held-out pairs: loss per French token", f"{stored['pairs']['french']['loss']:.2f} nats"),
        ("held-out English text", f"{stored['text en']['bits_per_character']:.2f} bits per character"),
        ("held-out French text", f"{stored['text fr']['bits_per_character']:.2f} bits per character"),
    ]
    return f"**Untuned**\n\n{table(('', ''), rows)}"


def _reference(results: Results) -> str:
    stored = results.of(reference.NAME)
    base, runs = stored["base"], [result for key, result in stored.items() if key != "base"]
    heldout = ", ".join(f"{one['heldout']['right']}" for one in runs)
    return (
        f"**The demonstration** (`examples/translate-en-fr`). {reference_table(stored)}\n\nOf {base['heldout']['n']} random held-out "
        f"sentences of at most five words the base has {base['heldout']['right']} right under the same prompt, the tuned models {heldout} "
        "(in the order of the table)."
    )


def _tasks(results: Results) -> str:
    stored = results.of(tasks.NAME)
    if not stored:
        return ""
    rows = []
    for task in tasks.TASKS:
        base = stored[f"{task.name} base"]
        runs = [result for key, result in stored.items() if key.startswith(f"{task.name} seed ")]
        tuned = [unpack_hits(one) for one in runs]
        bag = stored.get(f"{task.name} bag of words")
        against = ["-", "-"] if bag is None else [percent(share(bag)), str(paired_bootstrap(tuned, [unpack_hits(bag)]))]
        gain = str(paired_bootstrap(tuned, [unpack_hits(base)]))
        shares = " / ".join(percent(share(one)) for one in runs)
        rows.append([task.title, runs[0]["run"]["n_train"], base["n"], percent(share(base)), shares, gain, *against])
    headers = ("task", "training rows", "test rows", "base", "tuned, by seed", "tuned - base", *tasks.BAG_HEADERS)
    return (
        "**Public tasks**, LoRA, right answers (greedy, exact); differences in points with a 95 % interval (paired bootstrap over the rows)"
        f"\n\n{table(headers, rows)}"
    )


def _formality(results: Results) -> str:
    runs = [result for key, result in results.of(tasks.NAME).items() if key.startswith("formality seed ")]
    if not runs:
        return ""
    return f"**Formal over informal French by preferences** (DPO). {FORMALITY_WORDS}\n\n{table(FORMALITY_HEADERS, formality_rows(runs))}"


def _speed(results: Results) -> str:
    stored = results.of(speed.NAME)
    if not stored:
        return ""
    return (
        f"Loads in {stored['load']['median']:.2f} s; a greedy answer of {speed.ANSWER_TOKENS} tokens takes "
        f"{1000 * stored['answer']['median']:.0f} ms on the idle engine."
    )


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="record of the finished run (WORK/run.json)")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="folder with the list of storybook authors, copied beside the card")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    arguments = parser.parse_args()
    text = card(read_record(arguments.run), arguments.out, Results.read(arguments.results))
    (arguments.out / "README.md").write_text(text, encoding="utf-8")
    if arguments.corpus is not None:
        shutil.copyfile(arguments.corpus / ATTRIBUTION, arguments.out / ATTRIBUTION)
    print(f"card: {arguments.out / 'README.md'}")


if __name__ == "__main__":
    run_script(main)
