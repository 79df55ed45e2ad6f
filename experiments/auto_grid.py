"""Does "auto" reach what a search would find? Three real tasks on the embedded base: auto against a grid of rates and epochs.

What it does: draws training, validation and test rows by a fixed seed, trains each cell of the grid and auto by the product's own stages,
asks each tuned model the test rows, and appends one line a run to a file; a run that stands there is not made again. What it does not:
decide anything for a job (``training/resolve.py``). Run by hand from the repository's root, with the folders of the public data:

    python -m experiments.auto_grid --tasks DIR --corpus DIR --out grid.jsonl
    python -m experiments.auto_grid --out grid.jsonl --table
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics.chrf import CHRF

from luthier.chat.renderer import Renderer
from luthier.core.specs import Hyperparameters, Keep, LuthierOptions, TrainingSpec, TuningMethod
from luthier.models.device import prepare_device, training_placement
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.base_probe import probe_base
from luthier.training.loop import Trainer
from luthier.training.range_test import RangeTest
from luthier.training.resolve import RunFacts, resolve, resolve_max_length
from pretraining.evaluation.base_model import heldout_pairs
from pretraining.evaluation.generate import chat_prompt, greedy_answers
from pretraining.evaluation.options import read_rows, write_rows
from pretraining.evaluation.statistics import is_right
from pretraining.evaluation.supervised import same_answer
from pretraining.evaluation.tasks import draw_home, draw_intents
from pretraining.evaluation.tune import read_dataset
from tests.support.mini import MINI
from tests.support.trainable_model import Recorder

RATES, EPOCHS = (3e-5, 1e-4, 3e-4, 1e-3), (1, 3, 10)
_ORDER = (3, 10, 1)
NUM_TRAIN, NUM_VALID, NUM_TEST = 300, 60, 200
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_SEED = 20261127
_MOST_WORDS = 8
_ROOM = 8
"""An answer may be so many tokens longer than the longest expected one before it is cut."""
NEVER = 10**6
_KINDS = ("auto", "range_test", "keep_best", "grid")


@dataclass(frozen=True, slots=True)
class Asked:
    """One test question with every answer that is right."""

    question: str
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task's rows, on three sides that share no question."""

    name: str
    train: list[dict[str, Any]]
    valid: list[dict[str, Any]]
    test: list[Asked]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: None leaves a number to auto."""

    rate: float | None
    epochs: int | None
    keep_best: bool = False
    range_test: bool = False

    @property
    def kind(self) -> str:
        """One of ``_KINDS``."""
        if self.rate is not None:
            return "grid"
        return "range_test" if self.range_test else "keep_best" if self.keep_best else "auto"


def _row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _chat(row: dict[str, Any]) -> tuple[str, str]:
    return row["messages"][0]["content"], row["messages"][-1]["content"]


def _split(name: str, learned: list[dict[str, Any]], asked: list[Asked]) -> Task:
    train, seen = learned[:NUM_TRAIN], {_chat(row)[0].casefold() for row in learned[:NUM_TRAIN]}
    valid = [row for row in learned[NUM_TRAIN:] if _chat(row)[0].casefold() not in seen][:NUM_VALID]
    return Task(name, train, valid, asked[:NUM_TEST])


def intents(tasks: Path, _corpus: Path) -> Task:
    """CLINC with 20 intents: the label, letter by letter."""
    learned, asked = draw_intents(*(read_rows(tasks / f"clinc150_{part}.jsonl.xz") for part in ("train", "test")))
    return _split("intents", learned, [Asked(question, (answer,)) for question, answer in map(_chat, asked)])


def home(tasks: Path, _corpus: Path) -> Task:
    """Home Assistant's sentences in two languages: a JSON object, equal when parsed."""
    learned, asked = draw_home(read_rows(tasks / "home_assistant_intents.jsonl.xz"))
    return _split("home", learned, [Asked(question, (answer,)) for question, answer in map(_chat, asked)])


def translation(_tasks: Path, corpus: Path) -> Task:
    """Sentences of at most eight words that pre-training never saw: chrF against all accepted translations."""
    pairs, variants = heldout_pairs(corpus)
    short = [pair for pair in pairs if len(pair.en.split()) <= _MOST_WORDS]
    random.Random(_SEED).shuffle(short)
    rows = [_row(f"Translate to French: {pair.en}", pair.fr) for pair in short[:-NUM_TEST]]
    asked = [Asked(f"Translate to French: {pair.en}", tuple(variants[pair.en])) for pair in short[-NUM_TEST:]]
    return _split("translation", rows, asked)


def banking(tasks: Path, _corpus: Path) -> Task:
    """Twenty of banking77's intents: to choose by, as the next ones."""
    learned, asked = draw_intents(*(read_rows(tasks / f"banking77_{part}.jsonl.xz") for part in ("train", "test")))
    return _split("banking", learned, [Asked(question, (answer,)) for question, answer in map(_chat, asked)])


def polarity(tasks: Path, _corpus: Path) -> Task:
    """Sentences that are praise or blame."""
    learned, asked = (read_rows(tasks / f"sentence_polarity_{part}.jsonl.xz") for part in ("train", "test"))
    for rows in (learned, asked):
        random.Random(_SEED).shuffle(rows)
    return _split("polarity", learned, [Asked(question, (answer,)) for question, answer in map(_chat, asked)])


def orders(_tasks: Path, _corpus: Path) -> Task:
    """The example ``extract-json``: a JSON object that the base half knows how to write."""
    learned, asked = (
        [json.loads(line) for line in (EXAMPLES / "extract-json" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "valid")
    )
    return _split("orders", learned, [Asked(question, (answer,)) for question, answer in map(_chat, asked)])


TASKS: dict[str, Callable[[Path, Path], Task]] = {"intents": intents, "home": home, "translation": translation}
OTHERS: dict[str, Callable[[Path, Path], Task]] = {"banking": banking, "polarity": polarity, "orders": orders}
"""To choose a rule by; the three above are to judge it."""


def cells() -> Iterator[Cell]:
    """Auto first, then the grid: the cells that are likely to be its best come before the others, for whoever does not wait."""
    yield Cell(None, None)
    yield Cell(None, None, range_test=True)
    half = len(RATES) // 2
    for rates in (RATES[half:], RATES[:half]):
        for epochs in _ORDER:
            for rate in reversed(rates):
                yield Cell(rate, epochs)
    yield Cell(None, None, keep_best=True)


def decide(cell: Cell, train: Prepared, model: LanguageModel, precision: str, *, held_out: bool) -> TrainingSpec:
    """What a job of the API would train with; a grid's cell puts its rate and epochs in. One thread, so that runs can be compared."""
    options = LuthierOptions(keep=Keep.BEST if cell.keep_best else None, range_test=cell.range_test)
    facts = RunFacts(
        num_examples=len(train.examples),
        num_parameters=model.facts.num_parameters,
        base="luthier-mini",
        base_revision=model.facts.revision,
        dataset_fingerprint="grid",
        validation_fingerprint="grid" if held_out else None,
        seed=1,
        num_threads=1,
        precision=precision,
    )
    length = int(resolve_max_length(None, model.facts.max_length).value)
    asked = Hyperparameters(n_epochs=cell.epochs)
    spec, _ = resolve(asked, options, facts, max_length=length)
    if cell.rate is None:
        found = probe_base(model, spec, train, parent_adapter=None)
        spec, _ = resolve(asked, options, replace(facts, found=found), max_length=length)
    spec = replace(spec, validation_every=NEVER)
    return spec if cell.rate is None else replace(spec, learning_rate=cell.rate)


def _prepared(rows: list[dict[str, Any]], folder: Path, renderer: Renderer, length: int) -> Prepared:
    path = write_rows(folder / "rows.jsonl", rows)
    return prepare(read_dataset(path, "training"), renderer, max_length=length, role="training")


def score(name: str, tuned: Path | None, renderer: Renderer, asked: Sequence[Asked]) -> dict[str, float]:
    """Per cent right, and chrF where answers are translations, as the product serves the adapter: on a float32 base."""
    model = load_model(MINI)
    if tuned is not None:
        model.load_adapter(ADAPTER_NAME, tuned)
    longest = max(len(renderer.tokenizer.encode(one.accepted[0])) for one in asked) + _ROOM
    prompts = [chat_prompt(renderer, one.question) for one in asked]
    adapter = ADAPTER_NAME if tuned is not None else None
    answers = [text.strip() for text in greedy_answers(model, renderer, prompts, max_tokens=longest, adapter=adapter)]
    if name != "translation":
        right = sum(same_answer(got, one.accepted[0]) for got, one in zip(answers, asked, strict=True))
        return {"score": round(100 * right / len(asked), 1)}
    right = sum(is_right(got, one.accepted) for got, one in zip(answers, asked, strict=True))
    most = max(len(one.accepted) for one in asked)
    streams = [[one.accepted[at] if at < len(one.accepted) else None for one in asked] for at in range(most)]
    chrf = CHRF().corpus_score(answers, streams).score  # type: ignore[arg-type]  # None is allowed where a sentence has no n-th reference
    return {"score": round(chrf, 1), "right": round(100 * right / len(asked), 1)}


def run_cell(task: Task, cell: Cell) -> dict[str, Any]:
    """Train once and ask: the line that the file gets."""
    placement = training_placement("cpu", "auto", TuningMethod.LORA)
    prepare_device("cpu", placement.precision)
    torch.set_num_threads(1)
    renderer, model = Renderer.load(MINI), load_model(MINI, dtype=placement.dtype)
    hooks = Recorder()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = _prepared(task.train, folder, renderer, model.facts.max_length)
        valid = _prepared(task.valid, folder, renderer, model.facts.max_length) if cell.keep_best else None
        spec = decide(cell, train, model, placement.precision, held_out=valid is not None)
        began, began_cpu = time.perf_counter(), time.process_time()
        if cell.range_test:
            told = RangeTest(model, spec, train, parent_adapter=None, should_stop=lambda: False).run()
            assert told is not None
            spec = replace(spec, learning_rate=told.learning_rate)
        Trainer(model, spec, train, valid, hooks, folder / "state", resume_seconds=NEVER, resume_share=1.0).run()
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        (folder / "tuned").mkdir()
        model.save_adapter(ADAPTER_NAME, folder / "tuned", base_name="luthier-mini")
        scores = score(task.name, folder / "tuned", renderer, task.test)
        beside = [Asked(question, (answer,)) for question, answer in map(_chat, task.valid)]
        chosen_by = score(task.name, folder / "tuned", renderer, beside)["score"] if beside else None
    facts = {"rate": spec.learning_rate, "epochs": spec.n_epochs, "batch": spec.batch_size, "precision": spec.precision}
    losses = [round(epoch.train_loss, 3) for epoch in hooks.epochs]
    return {
        "task": task.name,
        **asdict(cell),
        "used": facts,
        **scores,
        "valid": chosen_by,
        "losses": losses,
        "seconds": round(seconds),
        "cpu_seconds": round(cpu),
    }


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    """A run is another where its numbers are: auto by another rule is made again. A rate that is tested is known afterwards only."""
    used = row["used"]
    rate = None if row["range_test"] else round(used["rate"], 9)
    return row["task"], row["rate"], row["epochs"], row["keep_best"], row["range_test"], rate, used["epochs"], used["batch"]


def run_all(out: Path, tasks: Sequence[Task], asked: Sequence[Cell]) -> None:
    """Every cell that is not in the file yet; the shortest ones of all tasks first."""
    placement = training_placement("cpu", "auto", TuningMethod.LORA)
    prepare_device("cpu", placement.precision)
    renderer, model = Renderer.load(MINI), load_model(MINI, dtype=placement.dtype)
    known = {_key(json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines()} if out.exists() else set()
    with tempfile.TemporaryDirectory() as name:
        rows = {task.name: _prepared(task.train, Path(name), renderer, model.facts.max_length) for task in tasks}
    for cell in asked:
        for task in tasks:
            spec = decide(cell, rows[task.name], model, placement.precision, held_out=cell.keep_best)
            used = {"rate": spec.learning_rate, "epochs": spec.n_epochs, "batch": spec.batch_size}
            if _key({"task": task.name, **asdict(cell), "used": used}) in known:
                continue
            line = json.dumps(run_cell(task, cell))
            with out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)
    for task in tasks:
        print(f"{task.name}, untuned: {score(task.name, None, renderer, task.test)}", flush=True)


def show(out: Path) -> None:
    """One table a task: a row for each number of epochs, a column for each rate; auto and the grid's best below."""
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for name in TASKS | OTHERS:
        mine = [row for row in rows if row["task"] == name]
        grid = {(row["rate"], row["epochs"]): row for row in mine if row["rate"] is not None}
        print(f"\n{name}\n| epochs | " + " | ".join(f"{rate:.0e}" for rate in RATES) + " |\n|" + "---|" * (len(RATES) + 1))
        for epochs in EPOCHS:
            found = (grid.get((rate, epochs)) for rate in RATES)
            print(f"| {epochs} | " + " | ".join("-" if row is None else f"{row['score']:.1f}" for row in found) + " |")
        best = max(grid.values(), key=lambda row: row["score"], default=None)
        print(f"best of the grid: {best and (best['score'], best['rate'], best['epochs'])}")
        for row in mine:
            if row["rate"] is None:
                more = ", best epoch kept" if row["keep_best"] else ", range test" if row["range_test"] else ""
                print(f"auto{more}: {row['score']:.1f} at rate {row['used']['rate']:.2e}, {row['used']['epochs']} epochs")


def main() -> None:
    """Read the command line; run what is missing, or show what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=Path, help="folder of the task files")
    parser.add_argument("--corpus", type=Path, help="folder of enfr_pairs.tsv.xz")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file that results are appended to")
    parser.add_argument("--only", choices=[*TASKS, *OTHERS], nargs="+", default=list(TASKS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="of the grid, only these")
    parser.add_argument("--epochs", type=int, nargs="+", default=list(EPOCHS), help="of the grid, only these")
    parser.add_argument("--kinds", choices=_KINDS, nargs="+", default=list(_KINDS), help="which runs")
    parser.add_argument("--table", action="store_true", help="print the tables of what the file has, and run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        tasks = [(TASKS | OTHERS)[name](arguments.tasks, arguments.corpus) for name in arguments.only]
        kept = [cell for cell in cells() if cell.rate is None or (cell.rate in arguments.rates and cell.epochs in arguments.epochs)]
        asked = [cell for cell in kept if cell.kind in arguments.kinds]
        run_all(arguments.out, tasks, asked)
    show(arguments.out)


if __name__ == "__main__":
    main()
