"""What the ``result`` of a dataset task holds, kind by kind, for the OpenAPI document and the page's types.

What it does: names the fields that the work writes (``worker/dataset_kinds.py`` and its neighbours); a result that the page does not read
is left out. What it does not: make or check results; ``tests/contract/test_datasets.py`` holds them against it. Called by ``openapi.py``.
"""

from typing import Any, Literal

from pydantic import ConfigDict

from luthier.api.schemas.objects import Shape
from luthier.core.forecast import Forecast


class Finding(Shape):
    """A fault of one line, or of a file."""

    file: str
    line: int
    column: int | None
    path: str | None
    code: str
    severity: Literal["error", "warning"]
    message: str
    cure: str
    api_code: str | None


class FindingCount(Shape):
    """How often a fault was found, and where first."""

    count: int
    first_line: int


class FileFault(Shape):
    """As a job with this file would end."""

    code: str
    message: str
    param: str


class Result(Shape):
    """What any may have."""

    notes: list[str] | None = None
    """What was said on the way."""


class DataReport(Result):
    """Of ``check``; the first findings."""

    object: Literal["luthier.data_report"]
    file: str
    role: str
    bytes: int
    ok: bool
    method: str | None
    format: str | None
    num_lines: int
    num_faulty_rows: int
    num_faults: int
    num_warnings: int
    by_code: dict[str, FindingCount]
    counts: dict[str, Any]
    error: FileFault | None
    findings: list[Finding]


class Advice(Shape):
    """One thing that a file would teach."""

    code: str
    weight: Literal["serious", "worth_a_look", "information"]
    count: int
    lines: list[int]
    finding: str
    why: str
    cure: str
    examples: list[str]
    measured_on: int | None


class LossQuantiles(Shape):
    """Of the mean losses of rows, nats."""

    min: float
    p05: float
    p25: float
    median: float
    p75: float
    p95: float
    max: float
    mean: float


class MeasuredLosses(Shape):
    """``statistics.losses`` of the doctor: how well a model predicts rows that it was not tuned on; the rest is missing where none was
    long enough."""

    model: str
    num_measured: int
    num_tokens: int | None = None
    loss: LossQuantiles | None = None
    accuracy: float | None = None
    bounds: dict[str, float | None] | None = None


class DoctorStatistics(Shape):
    """What was counted, among more."""

    model_config = ConfigDict(extra="allow")

    losses: MeasuredLosses | None = None
    labels: dict[str, int] | None = None
    """Rows of each label, where the answers are labels."""


class DoctorReport(Result):
    """Of ``doctor``; the first findings."""

    object: Literal["luthier.doctor_report"]
    file: str
    num_rows: int
    format: str | None
    num_findings: int
    num_serious: int
    findings: list[Advice]
    checks: list[str]
    skipped: dict[str, str]
    statistics: DoctorStatistics


class PreviewToken(Shape):
    """A token of a row as training reads it; ``lost``: why training does not."""

    id: int
    text: str
    bytes: list[int]
    kind: Literal["trained", "context", "special", "truncated"]
    lost: str | None
    role: str
    message: int
    weight: float


class PreviewSequence(Shape):
    """One sequence of a row."""

    name: str
    num_tokens: int
    num_trained: int
    num_context: int
    num_special: int
    num_truncated: int
    num_trained_lost: int
    trained_share: float
    first_trained: int | None
    last_trained: int | None
    num_shared: int
    placement: dict[str, Any] | None
    tokens: list[PreviewToken]


class PreviewProblem(Shape):
    """What keeps a row from teaching what it says."""

    code: str
    severity: Literal["error", "warning"]
    message: str


class RowPreview(Result):
    """Of ``preview``."""

    object: Literal["luthier.row_preview"]
    file: str
    line: int
    format: str | None
    ok: bool
    max_length: int
    max_length_reason: str
    model: str
    sequences: list[PreviewSequence]
    reference: dict[str, Any] | None
    problems: list[PreviewProblem]
    packing: dict[str, Any] | None
    findings: list[Finding]


class Cure(Shape):
    """Changes with which the job would fit."""

    changes: dict[str, str]
    peak_bytes: int


class Price(Shape):
    """At a list price."""

    model: str
    per_million_tokens: float
    amount: float
    currency: str
    source: str


class OwnCost(Shape):
    """At the operator's price."""

    low: float
    likely: float
    high: float


class Costs(Shape):
    """What a job costs here and would have cost there."""

    currency: str
    own: OwnCost | None
    kilowatt_hours: float | None
    openai: list[Price]


class NumberDecided(Shape):
    """A number that was "auto", and why it became what it is."""

    name: str
    value: Any
    reason: str


class ForecastResult(Result):
    """Of ``forecast``."""

    model: str
    base: str
    method: str
    forecast: Forecast
    fits: bool
    refusal: str | None
    cures: list[Cure]
    costs: Costs
    decisions: list[NumberDecided]
    truncated: int
    skipped: int


class ImportedFile(Shape):
    """Where the rows lie now."""

    training: str


class Imported(Result):
    """Of ``import``."""

    rows: int
    left_out: int
    completions_read: int | None = None
    files: ImportedFile


RESULTS: dict[str, type[Shape]] = {
    "check": DataReport,
    "doctor": DoctorReport,
    "preview": RowPreview,
    "forecast": ForecastResult,
    "import": Imported,
}
"""Kind -> what its result holds."""
