"""Measures settings for the translation demo: trains the embedded base on ``examples/translate-en-fr`` and asks it unseen phrases.

Run by hand from the repository's root; never imported by ``src``. Prints one epoch table per setting, the share of phrases
that come out exactly right under greedy decoding, and the seconds that training took.

    python experiments/translate_grid.py --method lora --batch 8 --rate 1e-3 --seeds 1 2 3
"""

import argparse
import json
import tempfile
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import torch

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.settings import PACKAGE_DIR
from luthier.core.specs import Hyperparameters, LuthierOptions, TrainingSpec, TuningMethod
from luthier.data.stage import collect
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.trace.events import BaseMeasured, EpochDone, ResumeSaved, StepDone
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from luthier.training.resolve import RunFacts, resolve

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "translate-en-fr"
BASE = PACKAGE_DIR / "models" / "builtin" / "luthier-mini"
_TASK = "Translate to French: "
_MAX_ANSWER_TOKENS = 24
_MAX_LINE_BYTES = 1 << 20


class PrintingHooks:
    """Prints epochs as they end."""

    def __init__(self) -> None:
        self.epochs: list[EpochDone] = []
        self.num_saves = 0

    def base_measured(self, report: BaseMeasured) -> None:
        """Print the base's loss."""
        print(f"  base   loss {report.loss:.3f}  accuracy {report.accuracy:.3f}")

    def step_done(self, report: StepDone) -> None:
        """Only epochs are printed."""

    def epoch_done(self, report: EpochDone) -> None:
        """Print one row of the table."""
        self.epochs.append(report)
        print(
            f"  epoch {report.epoch}  train {report.train_loss:.3f} / {report.train_accuracy:.3f}"
            f"  held out {report.valid_loss or 0:.3f} / {report.valid_accuracy or 0:.3f}  {report.seconds:.1f} s"
        )

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Nothing is published here."""

    def resume_saved(self, report: ResumeSaved) -> None:
        """Count them."""
        self.num_saves += 1

    def happened(self, news: object) -> None:
        """Print it."""
        print(news)

    def should_stop(self) -> bool:
        """Never."""
        return False


def normalised(text: str) -> str:
    """Lower case without punctuation at the ends, one kind of apostrophe, single spaces."""
    plain = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u00a0", " ").lower()
    return " ".join(plain.split()).strip(" .!?")


def answer(model: LanguageModel, renderer: Renderer, phrase: str) -> str:
    """Greedy decoding by whole forwards: slow, and with nothing that could be wrong."""
    question = Message(role=Role.USER, content=_TASK + phrase)
    ids = [int(i) for i in renderer.prompt(Conversation(messages=(question,))).ids_T]
    start = len(ids)
    with torch.no_grad():
        while len(ids) - start < _MAX_ANSWER_TOKENS:
            last = torch.tensor([len(ids) - 1])
            logits = model.logits_at(torch.tensor([ids]), torch.tensor([len(ids)]), torch.zeros_like(last), last)
            token = int(logits[0].argmax())
            if token in renderer.stop_ids:
                break
            ids.append(token)
    return renderer.tokenizer.decode(ids[start:])


def score_phrases(model: LanguageModel, renderer: Renderer, adapter: str | None, *, show: bool) -> tuple[int, int, dict[str, str]]:
    """Exactly right phrases, all phrases, and the answers to those that the demo names."""
    right, total, named = 0, 0, {}
    with model.use_adapter(adapter):
        for line in (EXAMPLES / "phrases.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            got = answer(model, renderer, row["phrase"])
            good = normalised(got) in {normalised(wanted) for wanted in row["answers"]}
            right, total = right + good, total + 1
            if row.get("named"):
                named[row["phrase"]] = got
            if show and not good:
                print(f"    {row['phrase']!r} -> {got!r}, wanted {row['answers']}")
    return right, total, named


def load_set(name: str, renderer: Renderer, max_length: int) -> tuple[Prepared, str]:
    """A prepared example file with its fingerprint."""
    role = "training" if name == "train" else "validation"
    dataset = collect(name, EXAMPLES / f"{name}.jsonl", role=role, max_line_bytes=_MAX_LINE_BYTES, sha256="")
    return prepare(dataset, renderer, max_length=max_length, role=role), dataset.fingerprint


def decide(arguments: argparse.Namespace, train: Prepared, model: LanguageModel, seed: int) -> TrainingSpec:
    """The spec of one run: the product's own decisions, with what was asked for put in."""
    spec, _ = resolve(
        Hyperparameters(n_epochs=arguments.epochs, batch_size=arguments.batch),
        LuthierOptions(adapter=TuningMethod(arguments.method), rank=arguments.rank),
        RunFacts(
            num_examples=len(train.examples),
            num_parameters=model.facts.num_parameters,
            base="luthier-mini",
            base_revision=model.facts.revision,
            dataset_fingerprint="grid",
            validation_fingerprint=None,
            seed=seed,
            num_threads=arguments.threads,
        ),
        max_length=model.facts.max_length,
    )
    return replace(spec, learning_rate=arguments.rate) if arguments.rate else spec


def run_once(arguments: argparse.Namespace, seed: int) -> None:
    """Train with one seed and print what came of it."""
    renderer = Renderer.load(BASE)
    model = load_model(BASE)
    train, _ = load_set("train", renderer, model.facts.max_length)
    valid, _ = load_set("valid", renderer, model.facts.max_length)
    spec = decide(arguments, train, model, seed)
    print(f"{spec.method.value} batch {spec.batch_size} rate {spec.learning_rate:.2e} steps {spec.total_steps} seed {seed}")
    hooks = PrintingHooks()
    with tempfile.TemporaryDirectory() as folder:
        began, began_cpu = time.perf_counter(), time.process_time()
        result = Trainer(model, spec, train, valid, hooks, Path(folder)).run()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    adapter = ADAPTER_NAME if spec.method is TuningMethod.LORA else None
    right, total, named = score_phrases(model, renderer, adapter, show=arguments.show)
    cost = 1000 * cpu_seconds / result.steps
    print(f"  {seconds:.1f} s ({cpu_seconds:.1f} s of CPU, {cost:.0f} ms a step), {hooks.num_saves} resume states")
    print(f"  phrases {right} of {total}; {named}")


def main() -> None:
    """Read the command line and run each seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", choices=[m.value for m in TuningMethod], default=TuningMethod.LORA.value)
    parser.add_argument("--batch", type=int, default=None, help="examples per step; the product's own choice without it")
    parser.add_argument("--rate", type=float, default=None, help="peak learning rate; the product's own choice without it")
    parser.add_argument("--rank", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the phrases that came out wrong")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run_once(arguments, seed)


if __name__ == "__main__":
    main()
