"""The evaluation of the base model: what it knows, and what tuning makes of it.

Sections: ``base`` (untuned: translation, text, pairs), ``reference`` (the demonstration's run beside its bounds), ``tasks`` (public tasks),
``examples`` (the project's own), ``speed``. Prints plain tables, keeps every result in one JSON file, goes on after an interruption.
What it does not: choose settings; training and answers go through the product's own code. Run by hand:

    python -m pretraining.evaluate --model DIR --corpus DIR --tasks DIR --out FILE.json

Exit code 2 with a sentence when an input is missing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.measured import machine
from luthier.core.errors import LuthierError
from luthier.core.settings import PACKAGE_DIR
from luthier.models.facts import read_facts
from pretraining.errors import PretrainingError, run_script
from pretraining.evaluation import base_model, examples, reference, speed, tasks
from pretraining.evaluation.options import Options
from pretraining.evaluation.readmes import write_readmes
from pretraining.evaluation.results import Results

PACKAGED = PACKAGE_DIR / "models" / "builtin" / "luthier-mini"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PHRASES = Path(__file__).resolve().parent / "data" / "everyday_phrases.jsonl"
SECTIONS: dict[str, ModuleType] = {module.NAME: module for module in (base_model, reference, tasks, examples, speed)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=PACKAGED, help="model folder; the packaged base without it")
    parser.add_argument("--corpus", type=Path, help="corpus folder; for base and reference")
    parser.add_argument("--tasks", type=Path, help="folder of the public task files (*.jsonl.xz); for tasks")
    parser.add_argument("--examples", type=Path, default=EXAMPLES, help="folder of examples; the project's own without it")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections; all without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the training runs")
    parser.add_argument("--out", type=Path, help="results file; sections that were measured before stay in it")
    parser.add_argument("--limit", type=int, help="a trial with at most so many rows of everything; nothing is written")
    parser.add_argument("--write-readmes", action="store_true", help="write the measured tables into the examples' READMEs")
    return parser.parse_args(arguments)


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure the sections that were asked for.

    Raises:
        PretrainingError: an input is missing or damaged, or the results file belongs to another model. Nothing was measured then, save
            where a file turned out to be damaged on the way.
    """
    options = Options(
        model=arguments.model,
        corpus=arguments.corpus,
        tasks=arguments.tasks,
        examples=arguments.examples,
        phrases=PHRASES,
        seeds=tuple(dict.fromkeys(arguments.seeds)),
        limit=arguments.limit,
    )
    if options.limit is not None and options.limit < 1:
        raise PretrainingError("--limit must be at least 1.")
    chosen = [name for name in SECTIONS if name in arguments.only]
    gone = [sentence for name in chosen for sentence in SECTIONS[name].missing(options)]
    if gone:
        raise PretrainingError(" ".join(gone) + " Leave a section out with --only.")
    try:
        _measure(options, chosen, arguments)
    except LuthierError as error:
        raise PretrainingError(error.message) from error


def _measure(options: Options, chosen: Sequence[str], arguments: argparse.Namespace) -> None:
    facts = read_facts(options.model)
    model = {"name": options.model.name, "revision": facts.revision, "num_parameters": facts.num_parameters}
    trial = options.limit is not None
    results = Results(None if trial else arguments.out, model)
    where = machine()
    print(f"{model['name']}, revision {facts.revision[:12]}, {facts.num_parameters:,} parameters")
    print(f"{where['processor']}, {where['cores']} cores")
    for name in chosen:
        section = results.section(name, where)
        SECTIONS[name].run(options, section)
        section.finish()
    if trial:
        print(f"This was a trial with --limit {options.limit}: nothing was written.")
    elif arguments.write_readmes:
        write_readmes(options.examples, results)


def main() -> None:
    """Read the command line and measure."""
    evaluate(parse(None))


if __name__ == "__main__":
    run_script(main)
