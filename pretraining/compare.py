"""Several trained bases side by side, untuned: chrF2 and exact answers on the held-out pairs, bits per character, loss of the pairs.

What it does: run the section ``base`` of the evaluation for every folder and print one table. What it does not: write a results file or
tune (``evaluate.py`` does). Run by hand, to choose which weights are worth an evaluation:

    python -m pretraining.compare --corpus DIR [--limit 200] MODEL [MODEL ...]
"""

import argparse
from pathlib import Path

from benchmarks.measured import machine
from luthier.models.facts import read_facts
from pretraining.errors import PretrainingError, run_script
from pretraining.evaluate import EXAMPLES, PACKAGED, PHRASES
from pretraining.evaluation import base_model
from pretraining.evaluation.options import Options
from pretraining.evaluation.results import Results
from pretraining.evaluation.tables import percent, show

_HEADERS = [
    "model",
    "million parameters",
    "chrF2",
    "exactly right",
    "bits/char en",
    "bits/char fr",
    "loss per French token",
    "loss per row token",
]


def measured(model: Path, folder: Path, limit: int | None) -> list[object]:
    """One row of the table.

    Raises:
        PretrainingError: an input is missing.
    """
    options = Options(model=model, corpus=folder, tasks=None, examples=EXAMPLES, phrases=PHRASES, seeds=(1,), limit=limit)
    if gone := base_model.missing(options):
        raise PretrainingError(" ".join(gone))
    facts = read_facts(model)
    results = Results(None, {"revision": facts.revision})
    section = results.section(base_model.NAME, machine())
    base_model.run(options, section)
    section.finish()
    kept = results.of(base_model.NAME)
    translation = kept["translation"]
    return [
        f"{model.parent.name}/{model.name}",
        f"{facts.num_parameters / 1e6:.2f}",
        f"{translation['chrf']:.1f}",
        percent(translation["right"] / translation["n"]),
        *(f"{kept[f'text {language}']['bits_per_character']:.3f}" for language in ("en", "fr")),
        *(f"{kept['pairs'][rows]['loss']:.3f}" for rows in ("french", "row")),
    ]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", default=[PACKAGED], help="model folders; the packaged base comes first")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="at most so many rows of everything")
    arguments = parser.parse_args()
    folders = list(dict.fromkeys([PACKAGED, *arguments.models]))
    rows = [measured(folder, arguments.corpus, arguments.limit) for folder in folders]
    show("Untuned, held-out rows, greedy (no seed)", _HEADERS, rows)


if __name__ == "__main__":
    run_script(main)
