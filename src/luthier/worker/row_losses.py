"""How well a model predicts each answer of a file, on a random sample of its rows that fits in a time limit.

What it does: chooses lines by a seed, measures the mean loss of each row's trained tokens in batches of like length, and stops
when the time is up. What it does not: judge losses (``loss_findings.py``), print for people, need a server. Called by the
process of ``luthier data losses`` (``python -m luthier.worker.row_losses PATH --model NAME``) and by the doctor's.

The order of the lines is fixed by the seed and the file's number of lines; how far a run gets in it depends on the time alone.
So a faster machine measures the same rows and more. Groups are cut by the order too, not by the time: a row's loss comes out of
the same batch, whatever the limit.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from luthier.core.conversation import Role
from luthier.core.doctor_report import DoctorFinding
from luthier.core.errors import InvalidRequest
from luthier.core.examples import PreferenceExample, RlExample, SftExample
from luthier.core.settings import from_environment
from luthier.core.tokens import Rendered
from luthier.data.chosen_lines import check_lines, count_lines
from luthier.data.validate import Method
from luthier.deployment.scoring import Entry, score
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.sequences import sequences_of
from luthier.training.resolve import auto_threads
from luthier.worker.base_folder import FoundModel, find_model
from luthier.worker.loss_findings import Bounds, RowLoss, bounds_of, code_of, findings_of_losses, statistics_of
from luthier.worker.process_edge import told_errors
from luthier.worker.row_preview import Reader, load_reader

BUDGET_SECONDS = 25.0
"""With the seconds that a process takes to start, a run stays under 30."""
MAX_ROWS = 20_000
MAX_THREADS = 8
_FIRST_GROUP, _LARGEST_GROUP = 1, 16
"""Groups double: a slow model has measured something early, a fast one is seldom interrupted."""
_GRACE_SECONDS = 10.0
"""How much longer is looked for a first row that can be measured."""
_TEXT_CHARACTERS = 120
_ADAPTER = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLosses:
    """What was measured."""

    model: str
    rows: tuple[RowLoss, ...]
    """In the order of the sample."""
    num_lines: int
    """Of the file."""
    num_left_out: int
    """Lines of the sample that could not be measured: blank, faulty, or without a trained token."""
    is_complete: bool
    """Whether every line of the file was looked at: then this is no sample."""
    seed: int
    seconds: float
    bounds: Bounds
    findings: list[DoctorFinding]
    statistics: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; rows in the order of the file."""
        return {
            "object": "luthier.row_losses",
            "model": self.model,
            "num_lines": self.num_lines,
            "num_left_out": self.num_left_out,
            "is_complete": self.is_complete,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "statistics": self.statistics,
            "findings": [finding.to_dict() for finding in self.findings],
            "rows": [
                {
                    "line": row.line,
                    "loss": round(row.loss, 4),
                    "num_tokens": row.num_tokens,
                    "num_correct": row.num_correct,
                    "text": row.text,
                    "finding": code_of(row, self.bounds),
                }
                for row in sorted(self.rows, key=lambda row: row.line)
            ],
        }


def row_losses(
    path: Path,
    model: FoundModel,
    *,
    seed: int,
    max_line_bytes: int,
    budget_seconds: float = BUDGET_SECONDS,
    method: Method | None = None,
    num_threads: int = 0,
    on_progress: Callable[[int, float], None] = lambda _rows, _seconds: None,
    clock: Callable[[], float] = time.monotonic,
) -> RowLosses:
    """Measure a file's rows with a model.

    Of supervised rows every trained token is measured, of preference rows the preferred answer.

    Args:
        path: the file; its rows need not all be sound.
        model: a base, or an adapter on one.
        seed: chooses the lines and their order.
        max_line_bytes: longest line.
        budget_seconds: reading the file, loading the model and measuring together; one row is measured in any case, if one can be found.
        method: what the rows are for; None takes it from the file's first row.
        num_threads: of torch in this process; 0 takes what a job takes, at most 8.
        on_progress: is given the number of measured rows and the seconds so far, after each group.
        clock: seconds; for tests.

    Raises:
        InvalidRequest: the model cannot be loaded, or the rows are for reinforcement and have no answers.
        OSError: the file cannot be read.
    """
    if method == "reinforcement":
        raise InvalidRequest("Rows for reinforcement have no answers whose loss could be measured.")
    began = clock()
    num_lines = count_lines(path)
    order = sample_order(num_lines, seed, MAX_ROWS)
    reader = load_reader(model.folder, asked_length=None)
    loaded, adapter = _load(model, num_threads)
    rows: list[RowLoss] = []
    taken = 0
    lines = _rendered_lines(path, order, reader, method=method, max_line_bytes=max_line_bytes)
    until, max_length = began + budget_seconds, int(reader.max_length.value)
    for group, measured in _measured(loaded, adapter, _groups(lines), max_length=max_length, until=until, clock=clock):
        rows += measured
        taken += len(group)
        on_progress(len(rows), clock() - began)
    bounds = bounds_of(rows, loaded.facts.vocab_size)
    return RowLosses(
        model=model.name,
        rows=tuple(rows),
        num_lines=num_lines,
        num_left_out=taken - len(rows),
        is_complete=taken == num_lines,
        seed=seed,
        seconds=clock() - began,
        bounds=bounds,
        findings=findings_of_losses(rows, bounds, model=model.name),
        statistics=statistics_of(rows, bounds),
    )


def _load(model: FoundModel, num_threads: int) -> tuple[LanguageModel, str | None]:
    """The model with bounded threads, and the name of its adapter."""
    loaded = load_model(model.folder)
    threads = auto_threads(num_threads, torch.get_num_threads(), loaded.facts.num_parameters)
    torch.set_num_threads(min(int(threads.value), MAX_THREADS))
    if model.adapter is None:
        return loaded, None
    loaded.load_adapter(_ADAPTER, model.adapter)
    return loaded, _ADAPTER


def sample_order(num_lines: int, seed: int, most: int) -> list[int]:
    """At most ``most`` 1-based line numbers, each line as likely as every other at every place; the same for the same arguments."""
    # Raw bits and a stable sort: NumPy promises that these stay the same.
    bits = np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFF, num_lines])).random_raw(num_lines)
    return (np.argsort(bits, kind="stable")[:most] + 1).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    number: int
    sequences: tuple[Rendered, ...] = ()
    """Those that have a trained token within the length limit; none where the line has nothing that can be measured."""
    text: str = ""


def _rendered_lines(path: Path, order: Sequence[int], reader: Reader, *, method: Method | None, max_line_bytes: int) -> Iterator[_Line]:
    max_length = int(reader.max_length.value)
    for line in check_lines(path, order, method=method, max_line_bytes=max_line_bytes):
        if not line.is_sound:
            yield _Line(number=line.number)
            continue
        assert line.row_format is not None
        example = line.example(path.name)
        assert not isinstance(example, RlExample)
        try:
            sequences = sequences_of(example, reader.renderer, line.row_format)
        except InvalidRequest:  # the template refuses the row: ``luthier data show`` says why
            yield _Line(number=line.number)
            continue
        # Of a preference row this is the preferred answer.
        kept = tuple(one.rendered for one in sequences if one.name != "non_preferred" and one.rendered.weights_T[:max_length].any())
        yield _Line(number=line.number, sequences=kept, text=_answer(example))


def _answer(example: SftExample | PreferenceExample) -> str:
    """How the last trained answer begins, in words; a tool call as its JSON."""
    if isinstance(example, PreferenceExample):
        return example.preferred.content[:_TEXT_CHARACTERS]
    last = next((m for m in reversed(example.conversation.messages) if m.role is Role.ASSISTANT and m.weight > 0), None)
    if last is None:
        return ""
    return (last.content or orjson.dumps([call.get("function") for call in last.tool_calls]).decode())[:_TEXT_CHARACTERS]


def _groups(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    size, group = _FIRST_GROUP, []
    for line in lines:
        group.append(line)
        if len(group) == size:
            yield group
            size, group = min(2 * size, _LARGEST_GROUP), []
    if group:
        yield group


def _measured(
    model: LanguageModel,
    adapter: str | None,
    groups: Iterator[list[_Line]],
    *,
    max_length: int,
    until: float,
    clock: Callable[[], float],
) -> Iterator[tuple[list[_Line], list[RowLoss]]]:
    """Each group with its losses, as long as the next one is likely to be done in time; the first one with losses also a little later."""
    seconds_per_token, any_measured = 0.0, False
    for group in groups:
        sequences = [rendered for line in group for rendered in line.sequences]
        num_tokens = sum(min(rendered.ids_T.shape[0], max_length) for rendered in sequences)
        began = clock()
        if began + num_tokens * seconds_per_token > (until if any_measured else until + _GRACE_SECONDS):
            return
        entries: tuple[Entry, ...] = ()
        for piece in score(model, adapter, sequences, max_length):
            entries = piece or entries
        if sequences:
            seconds_per_token, any_measured = (clock() - began) / num_tokens, True
        of_lines = iter(entries)
        yield group, [_loss(line, [next(of_lines) for _ in line.sequences]) for line in group if line.sequences]


def _loss(line: _Line, entries: Sequence[Entry]) -> RowLoss:
    num_tokens = sum(entry.num_tokens for entry in entries)
    return RowLoss(
        line=line.number,
        loss=sum(entry.loss_sum for entry in entries) / num_tokens,
        num_tokens=num_tokens,
        num_correct=sum(entry.num_correct for entry in entries),
        text=line.text,
    )


def main() -> None:
    """Command line: ``PATH --model NAME_OR_FOLDER [--seed N] [--seconds S] [--method ...]``; tells progress and report as JSON lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS)
    parser.add_argument("--method", choices=("supervised", "dpo"), default=None)
    arguments = parser.parse_args()

    def tell(kind: str, value: object) -> None:
        sys.stdout.buffer.write(orjson.dumps({kind: value}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    with told_errors("luthier data losses"):
        settings = from_environment()
        losses = row_losses(
            arguments.path,
            find_model(arguments.model or settings.default_base, settings),
            seed=arguments.seed,
            max_line_bytes=settings.max_line_bytes,
            budget_seconds=arguments.seconds,
            method=arguments.method,
            num_threads=settings.train_threads,
            on_progress=lambda rows, seconds: tell("progress", {"rows": rows, "seconds": seconds}),
        )
        tell("report", losses.to_dict())


if __name__ == "__main__":
    main()
