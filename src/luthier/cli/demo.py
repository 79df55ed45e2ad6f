"""``luthier demo``: a base model learns a task in front of your eyes, and is asked what it has never seen.

What it does: everything through the official client, against a server that runs already or one of its own. What it does not:
know a phrase or an answer (they stand in the example's files), or stop a server that it did not start.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from luthier.cli.client import client_of
from luthier.cli.demo_data import Phrase, asked_phrases
from luthier.cli.demo_server import DemoServer, demo_server
from luthier.cli.follow import follow
from luthier.cli.printing import client_errors, printable_output
from luthier.cli.render.report import print_report
from luthier.cli.render.text import literal, seconds
from luthier.core.errors import InvalidRequest
from luthier.core.settings import PACKAGE_DIR
from luthier.trace.view import TraceView

if TYPE_CHECKING:
    import openai

MODEL = "gpt-4o-mini-2024-07-18"
N_EPOCHS = 5
SUFFIX = "translate"
# Named, so that two demos on one machine show the same run; any other seed gives another run of the same kind.
JOB_SEED = 20261122
MAX_ANSWER_TOKENS = 32
FILES = ("train.jsonl", "valid.jsonl", "phrases.jsonl")


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model said to each phrase, in order."""

    texts: tuple[str, ...]

    def right(self, phrases: Sequence[Phrase]) -> int:
        """How many are accepted."""
        return sum(phrase.accepts(text) for phrase, text in zip(phrases, self.texts, strict=True))


@click.command(epilog="Example: luthier demo --keep")
@click.option("--url", default=None, help="Use this server instead of the one found or started.")
@click.option("--api-key", default=None, help="Its key.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="Data directory of a running server.")
@click.option("--examples", type=click.Path(path_type=Path), default=None, help="Folder with train.jsonl, valid.jsonl and phrases.jsonl.")
@click.option("--keep", is_flag=True, help="Leave the demo's own server running at the end.")
def demo(url: str | None, api_key: str | None, data_dir: Path | None, examples: Path | None, keep: bool) -> None:
    """Fine-tune the embedded model on the example, watch it, and ask it phrases that it has never seen."""
    printable_output()
    folder = example_folder(examples)
    console = Console(highlight=False)
    began = time.monotonic()
    with client_errors(), demo_server(url=url, api_key=api_key, data_dir=data_dir, keep=keep) as started:
        succeeded = run_demo(client_of(started.server), folder, console, started)
        console.print(Text(f"All of it took {seconds(time.monotonic() - began)}.", style="dim"))
        if keep and started.data_dir is not None:
            _tell_kept(console, started)
    sys.exit(0 if succeeded else 1)


def example_folder(given: Path | None) -> Path:
    """The example's folder: the given one, or the checkout's, found beside the package.

    Raises:
        InvalidRequest: its files are not there.
    """
    folder = given or PACKAGE_DIR.parent.parent / "examples" / "translate-en-fr"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not missing:
        return folder
    if given is None:
        raise InvalidRequest(
            "The demo's example files are part of the source checkout and not of the installed package. "
            "Name their folder with --examples DIR (examples/translate-en-fr of a checkout)."
        )
    raise InvalidRequest(f"{folder} lacks {', '.join(missing)}.")


def run_demo(client: "openai.OpenAI", folder: Path, console: Console, started: DemoServer) -> bool:
    """The demo itself; True when the job succeeded."""
    phrases = asked_phrases(folder)
    where = "already running" if started.data_dir is None else f"started in {seconds(started.seconds)}"
    console.print(Text("Server ", style="bold") + literal(started.server.url) + Text(f"  ({where})", style="dim"))
    console.print(f"Asking the base model {len(phrases)} phrases before any training ...", style="dim")
    before = ask_all(client, MODEL, phrases)
    job_id = create_job(client, folder, console)
    view = follow(client, job_id, console)
    print_report(console, view)
    job = client.fine_tuning.jobs.retrieve(job_id)
    if job.status != "succeeded" or job.fine_tuned_model is None:
        reason = job.error.message if job.error is not None and job.error.message else "see its events"
        console.print(Text(f"The job ended as {job.status}: ", style="bold red") + literal(reason))
        return False
    after = ask_all(client, job.fine_tuned_model, phrases)
    console.print(Rule(Text("Phrases that stand in no training row: base before, tuned after", style="bold"), align="left"))
    console.print(comparison(phrases, before, after))
    _tell_times(console, job.created_at, view)
    console.print(Rule(Text("The same in six lines of Python", style="bold"), align="left"))
    console.print(Text(six_lines(started)), soft_wrap=True)
    return True


def create_job(client: "openai.OpenAI", folder: Path, console: Console) -> str:
    """Upload both files and create the job; returns its id. Epochs are given, all else is left to "auto"."""
    with (folder / "train.jsonl").open("rb") as training, (folder / "valid.jsonl").open("rb") as validation:
        train_file = client.files.create(file=training, purpose="fine-tune")
        valid_file = client.files.create(file=validation, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=train_file.id,
        validation_file=valid_file.id,
        suffix=SUFFIX,
        seed=JOB_SEED,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": N_EPOCHS}}},
    )
    console.print(Text("Job ", style="bold") + literal(job.id) + Text(f"  {MODEL}, {N_EPOCHS} epochs, the rest auto", style="dim"))
    return job.id


def ask_all(client: "openai.OpenAI", model: str, phrases: Sequence[Phrase]) -> Answers:
    """Ask one model every phrase, greedily."""
    texts = []
    for phrase in phrases:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": phrase.prompt}], temperature=0, max_tokens=MAX_ANSWER_TOKENS
        )
        texts.append((answer.choices[0].message.content or "").strip())
    return Answers(tuple(texts))


def comparison(phrases: Sequence[Phrase], before: Answers, after: Answers) -> Table:
    """Both models' answers side by side, with marks and counts."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold", show_footer=True)
    right = [f"{answers.right(phrases)} of {len(phrases)} right" for answers in (before, after)]
    table.add_column("prompt", overflow="fold", footer="equal to a committed answer")
    table.add_column("base", overflow="fold", footer=right[0])
    table.add_column("tuned", overflow="fold", footer=right[1])
    for phrase, base, tuned in zip(phrases, before.texts, after.texts, strict=True):
        table.add_row(literal(phrase.prompt), _marked(phrase, base), _marked(phrase, tuned))
    return table


def _marked(phrase: Phrase, answer: str) -> Text:
    if phrase.accepts(answer):
        return Text("✓ ", style="green").append_text(literal(answer, "bold"))
    shown = literal(answer, max_length=60) if answer else Text("(empty answer)", style="dim")
    return Text("✗ ", style="red").append_text(shown)


def _tell_times(console: Console, created_at: int, view: TraceView) -> None:
    if view.first_step_at is not None:
        console.print(Text(f"First step {max(0.0, view.first_step_at - created_at):.0f} s after the job was created.", style="dim"))


def six_lines(started: DemoServer) -> str:
    """The demo's core, as a reader would type it."""
    return (
        "import time, openai\n"
        f'client = openai.OpenAI(base_url="{started.server.url}/v1", api_key=KEY)\n'
        'file = client.files.create(file=open("train.jsonl", "rb"), purpose="fine-tune")\n'
        f'job = client.fine_tuning.jobs.create(model="{MODEL}", training_file=file.id)\n'
        "while not (job := client.fine_tuning.jobs.retrieve(job.id)).finished_at: time.sleep(1)\n"
        'print(client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "..."}]))\n'
    )


def _tell_kept(console: Console, started: DemoServer) -> None:
    assert started.data_dir is not None
    console.print(Text("The server stays: ", style="bold") + literal(started.server.url))
    console.print(literal(f"  key     {started.data_dir / 'data' / 'api_key'}"))
    console.print(literal(f"  stop it: kill the process named in {started.data_dir / 'data' / 'server.json'}"))
