"""Examines a whole training file: what is sound by the rules and would still teach the wrong thing.

What it does: reads the file once into hashes and sizes of its rows, runs every check on these, and reads the few rows again that
findings show or that are tokenised. What it does not: report faults (``luthier data check`` does; faulty rows are left out and
counted), load models' weights, or print. Called by ``worker/examine_data.py``, and as a library::

    from pathlib import Path
    from luthier.data.doctor.examine import examine

    report = examine(Path("train.jsonl"), validation=Path("valid.jsonl"))
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.doctor_report import DoctorFinding, DoctorReport, Weight
from luthier.core.examples import RowFormat
from luthier.data.detectors import all_detectors
from luthier.data.detectors.seen_row import Detector
from luthier.data.doctor import answers, conflicts, duplicates, labels, lengths, overlap, truncation, turns
from luthier.data.doctor.draft import Draft
from luthier.data.doctor.row import DoctorRow
from luthier.data.doctor.row_facts import RowFacts
from luthier.data.doctor.sound_rows import SoundRows, read_again
from luthier.data.doctor.truncation import Base, Truncation
from luthier.data.near_equal import PromptGroups, prompts_of
from luthier.data.validate import Method
from luthier.data.word_sets import minhash

MAX_LINE_BYTES = 8 * 1024 * 1024
_NO_LIBRARY = "the library rensa is missing; it comes with: pip install 'luthier[data]'"
_NO_VALIDATION = "no validation file was given (--validation FILE)"
_NO_MODEL = "no base model was given (--model NAME)"
_NO_ANSWERS = "rows for reinforcement hold no answers"
_NO_LABELS = "the answers are texts, not labels"
_ONE_TEXT = "prompt/completion rows have no roles"
_WEIGHTS = list(Weight)


def examine(
    path: Path,
    *,
    validation: Path | None = None,
    method: Method | None = None,
    bases: Sequence[Base] = (),
    detectors: Sequence[Detector] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> DoctorReport:
    """Examine a training file, and how far a validation file is apart from it.

    Args:
        path: the training file, JSON lines.
        validation: the validation file.
        method: what the rows are for; None takes it from the first row.
        bases: models for whose lengths rows are counted.
        detectors: what looks at each row by itself; None takes all that are installed.
        max_line_bytes: longest line.
        seed: of the sample of rows that are tokenised.
        on_progress: is given the number of bytes read so far, of both files together, about once a megabyte.

    Raises:
        OSError: a file cannot be read, or there is no room for temporary files.
    """
    found, missing = all_detectors() if detectors is None else (detectors, {})
    examination = _Examination(path, validation, method=method, max_line_bytes=max_line_bytes)
    examination.read(found, on_progress)
    examination.skipped.update(missing)
    checks = tuple(code for detector in found for code in detector.codes)
    findings = [finding for detector in found for finding in detector.findings()]
    return examination.report(tuple(bases), seed=seed, findings=findings, checks=checks)


def with_findings(
    report: DoctorReport,
    findings: Sequence[DoctorFinding],
    *,
    checks: Sequence[str],
    skipped: Mapping[str, str],
    statistics: Mapping[str, Any],
) -> DoctorReport:
    """The report with what other processes found."""
    return replace(
        report,
        findings=ordered([*report.findings, *findings]),
        checks=(*report.checks, *checks),
        skipped={**report.skipped, **skipped},
        statistics={**report.statistics, **statistics},
    )


def ordered(findings: Sequence[DoctorFinding]) -> tuple[DoctorFinding, ...]:
    """The weightiest first; as they come where they weigh the same."""
    return tuple(sorted(findings, key=lambda finding: _WEIGHTS.index(finding.weight)))


class _Examination:
    """One file, or two, while they are examined."""

    def __init__(self, path: Path, validation: Path | None, *, method: Method | None, max_line_bytes: int) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._validation_name = validation.name if validation is not None else ""
        self._method: Method | None = method
        self._library = minhash()
        self._training = SoundRows(path, role="training", method=method, max_line_bytes=max_line_bytes)
        self._validation_path = validation
        self._validation: SoundRows | None = None
        self._facts = RowFacts(self._library)
        self._other = RowFacts(None)
        self._prompts = PromptGroups(self._library) if validation is not None else None
        self.skipped: dict[str, str] = {}
        self._checks: list[str] = []

    def read(self, detectors: Sequence[Detector], on_progress: Callable[[int], None]) -> None:
        """Read both files."""
        self._take(self._training, self._facts, detectors, on_progress)
        if self._validation_path is not None:
            size = self._path.stat().st_size
            # Where nobody said it, the training file's first row says what both files are for.
            asked = self._method or self._training.method
            self._validation = SoundRows(self._validation_path, role="validation", method=asked, max_line_bytes=self._max_line_bytes)
            self._take(self._validation, self._other, (), lambda done: on_progress(size + done))

    def _take(self, rows: SoundRows, facts: RowFacts, detectors: Sequence[Detector], on_progress: Callable[[int], None]) -> None:
        for sound in rows.read(on_progress):
            assert rows.row_format is not None
            facts.row_format = rows.row_format
            facts.add(sound.row, sound.raw, sound.data)
            if self._prompts is not None:
                self._prompts.add(prompts_of(sound.raw))
            for detector in detectors:
                detector.see(sound.row)

    def report(
        self, bases: tuple[Base, ...], *, seed: int, findings: Sequence[DoctorFinding] = (), checks: tuple[str, ...] = ()
    ) -> DoctorReport:
        """Run the checks; ``findings`` and ``checks`` are those of the detectors."""
        row_format = self._training.row_format
        drafts: list[Draft] = []
        statistics: dict[str, Any] = {"faults": _faults(self._training)}
        if self._validation is not None:
            statistics["validation"] = {"file": self._validation_name, "rows": len(self._other), "faults": _faults(self._validation)}
        if row_format is not None and len(self._facts):
            drafts += self._checked(row_format, statistics)
            cut = Truncation(self._facts, bases, row_format, seed=seed)
            rows = self._read_again(drafts, cut, row_format)
            self._ran(truncation.CODES, None if bases else _NO_MODEL)
            statistics["models"] = cut.statistics()
            findings = [*(draft.complete(rows) for draft in (*drafts, *cut.drafts())), *findings]
        return DoctorReport(
            file=self._path.name,
            num_rows=len(self._facts),
            row_format=row_format.value if row_format is not None else "",
            findings=ordered(findings),
            checks=(*self._checks, *checks),
            skipped=self.skipped,
            statistics=statistics,
        )

    def _checked(self, row_format: RowFormat, statistics: dict[str, Any]) -> Iterator[Draft]:
        """What the checks of whole columns find; counts go to ``statistics``."""
        facts = self._facts
        answered = row_format is not RowFormat.REINFORCEMENT
        no_answers = None if answered else _NO_ANSWERS
        task = labels.label_task(facts) if row_format in (RowFormat.CHAT, RowFormat.PROMPT_COMPLETION) else None
        statistics.update(_statistics(facts))
        if task is not None:
            statistics["labels"] = task.labels()
        if self._ran(duplicates.CODES):
            yield from duplicates.duplicates(facts)
        if self._ran((duplicates.NEAR_CODE,), None if self._library is not None else _NO_LIBRARY):
            yield from duplicates.near_duplicates(facts)
        if row_format is RowFormat.PREFERENCE:
            self._ran(conflicts.PREFERENCE_CODES)
            yield from conflicts.contradictions(facts)
        elif self._ran(conflicts.CODES, no_answers):
            yield from conflicts.conflicts(facts, is_label_task=task is not None)
        if self._ran(labels.CODES, no_answers or (None if task is not None else _NO_LABELS)) and task is not None:
            yield from labels.labels(facts, task)
        if self._ran(answers.CODES, no_answers):
            yield from answers.answers(facts, is_label_task=task is not None)
        self._ran(lengths.CODES)
        yield from lengths.lengths(facts, is_label_task=task is not None)
        if self._ran((*turns.CODES, turns.SYSTEM_CODE), _ONE_TEXT if row_format is RowFormat.PROMPT_COMPLETION else None):
            yield from turns.turns(facts, row_format)
        yield from self._compared(task)

    def _compared(self, task: labels.LabelTask | None) -> Iterator[Draft]:
        """What the comparison with the validation file finds."""
        if self._prompts is None:
            self._ran((*overlap.CODES, labels.VALIDATION_CODE), _NO_VALIDATION)
            return
        self._ran(overlap.CODES)
        if self._library is None:
            self.skipped[overlap.CODES[2]] = f"only prompts that are equal but for numbers were found: {_NO_LIBRARY}"
        yield from overlap.overlap(self._facts, self._other, self._prompts.labels(), self._validation_name)
        if self._ran((labels.VALIDATION_CODE,), None if task is not None else _NO_LABELS) and task is not None:
            yield from labels.only_in_validation(self._facts, task, self._other, self._validation_name)

    def _ran(self, codes: Sequence[str], reason: str | None = None) -> bool:
        """Note that checks ran, or why they do not."""
        if reason is None:
            self._checks += codes
        else:
            self.skipped.update(dict.fromkeys(codes, reason))
        return reason is None

    def _read_again(self, drafts: Sequence[Draft], cut: Truncation, row_format: RowFormat) -> Mapping[int, DoctorRow]:
        """The rows that findings show; those to be tokenised are tokenised on the way."""
        shown = {line for draft in drafts for line in draft.needs}
        measured = cut.lines()
        rows: dict[int, DoctorRow] = {}
        for sound in read_again(self._path, shown | measured, row_format, max_line_bytes=self._max_line_bytes):
            if sound.row.line in shown:
                rows[sound.row.line] = sound.row
            if sound.row.line in measured:
                cut.see(sound)
        return rows


def _faults(rows: SoundRows) -> dict[str, Any]:
    return {"lines": rows.num_faulty, "first": rows.first_fault}


def _statistics(facts: RowFacts) -> dict[str, Any]:
    shares = (0.05, 0.5, 0.95, 1.0)
    sizes = {
        name: dict(zip(("p5", "median", "p95", "most"), np.quantile(facts.sizes(name), shares).round().astype(int).tolist(), strict=True))
        for name in ("prompt_chars", "answer_chars")
    }
    distinct = {f"different_{name}s": len(np.unique(facts.keys(f"folded_{name}"))) for name in ("prompt", "answer")}
    return {**sizes, **distinct}
