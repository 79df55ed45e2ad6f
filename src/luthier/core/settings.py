"""Every setting, read once from the environment by each process and passed down.

What it does: names, bounds and defaults of all ``LUTHIER_*`` variables; the layout of the data directory.
What it does not: read files (``cli/settings_file.py`` does), parse the command line. Called by the three processes' entry
points and by the CLI.
``docs/reference/settings.md`` must name each field (a test compares).
"""

import datetime
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from luthier.core.aliases import check_alias_table
from luthier.core.errors import InvalidRequest

PACKAGE_DIR = Path(__file__).resolve().parent.parent

# OpenAI's tunable base names (reference, sections 2.1 and 8). Each resolves to the configured default base, so that one
# changed line in a client is enough; ``job.model`` and the ``ft:`` name keep the name that was asked for.
OPENAI_BASE_NAMES = (
    "gpt-4o-2024-08-06",
    "gpt-4o-2024-11-20",
    "gpt-4o",
    "gpt-4o-mini-2024-07-18",
    "gpt-4o-mini",
    "gpt-4.1-2025-04-14",
    "gpt-4.1",
    "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-mini",
    "gpt-4.1-nano-2025-04-14",
    "gpt-4.1-nano",
    "gpt-4-0613",
    "gpt-4",
    "gpt-3.5-turbo-0125",
    "gpt-3.5-turbo-1106",
    "gpt-3.5-turbo-0613",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-instruct",
    "o4-mini-2025-04-16",
    "o4-mini",
    "babbage-002",
    "davinci-002",
)

# The undated names resolve upstream, and ``job.model`` shows the dated snapshot (reference, section 2.1).
OPENAI_SNAPSHOTS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-4": "gpt-4-0613",
    "o4-mini": "o4-mini-2025-04-16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server. Each field says what it is, with its unit."""

    data_dir: Path = field(default_factory=lambda: Path("luthier-data"))
    """Directory that holds everything: database, files, models, runs. Movable while stopped."""
    host: str = "127.0.0.1"
    """Address the API listens on."""
    port: int = 8000
    """TCP port the API listens on; 0 takes a free one."""
    organization: str = "luthier"
    """Organisation slug: the third part of ``ft:`` names and ``owned_by`` of tuned models."""
    default_base: str = "luthier-mini"
    """Open base model that OpenAI's base names resolve to."""
    spec_strict: bool = False
    """True: jobs keep to the letter of the schema: a healthy one has ``error`` null, not an object of nulls; a paused one is ``queued``."""
    device: str = "auto"
    """Where models train and answer: `auto` (a GPU where torch finds one), `cpu`, `cuda` or `cuda:N`. A list like `cuda:0,cuda:1`: each
    job trains alone on all of these, and models answer on the first."""
    precision: str = "auto"
    """Numbers of weights in memory: `auto`, `float32`, `bfloat16` or `mixed` (float32, multiplied as bfloat16; for training).
    `auto` trains LoRA in bfloat16 and all weights in `mixed` where the device multiplies bfloat16, else float32; on a GPU see the guide."""
    train_threads: int = 0
    """CPU threads of a training process; 0 means one per core. Decides the bits of a run."""
    group_jobs: int = 8
    """Small LoRA jobs of one method on one base that one process trains together over one copy of it, at most; 1: one after another."""
    train_processes: int = 1
    """Training processes at once. Jobs on another base, and full fine-tunes, have processes of their own; they share the cores."""
    engine_threads: int = 0
    """CPU threads of the engine host; 0 means one for every two cores, at most 4: training has the rest."""
    train_memory_bytes: int = 0
    """Most memory of a training process, bytes; 0: 90 % of what is free at its start. A job forecast to need more is refused."""
    price_per_hour: float = 0.0
    """What an hour of this machine costs, in `LUTHIER_CURRENCY`, for the cost in forecasts; 0 means that no price is set."""
    price_per_million_tokens: float = 0.0
    """What a million training tokens cost, in `LUTHIER_CURRENCY`; added to the price of the hours. 0 means none."""
    currency: str = "USD"
    """Currency of these two prices, as it is shown."""
    openai_prices: dict[str, str] = field(default_factory=dict)
    """Dollars per million training tokens by OpenAI base name, over the documented ones (`[openai_prices]`)."""
    resume_seconds: float = 60.0
    """Longest time between two resume states of a running job, seconds."""
    resume_share: float = 0.05
    """Largest share of a run's steps between two resume states, which are at least a second apart."""
    mlflow_uri: str = ""
    """MLflow tracking address that all jobs' numbers go to: `http://HOST:5000`, `sqlite:////PATH/mlflow.db`; empty: none."""
    mlflow_experiment: str = "luthier"
    """Name of the experiment there."""
    tensorboard_dir: str = ""
    """Directory that all jobs' numbers go to as TensorBoard event files, one folder per job; empty: none."""
    trackio_project: str = ""
    """Name of the trackio project that all jobs' numbers go to; empty: none."""
    logger_grace_seconds: float = 60.0
    """How long a logger may go on telling a job's numbers after the end of its process, seconds; nothing else waits for it."""
    max_line_bytes: int = 8 * 1024 * 1024
    """Longest accepted line of a JSONL file, bytes."""
    max_file_bytes: int = 512 * 1024 * 1024
    """Largest accepted file upload, bytes."""
    max_upload_bytes: int = 8 * 1024 * 1024 * 1024
    """Largest file that may be uploaded in parts, bytes."""
    max_part_bytes: int = 64 * 1024 * 1024
    """Largest part of such an upload, bytes."""
    token_cache_bytes: int = 8 * 1024 * 1024 * 1024
    """What tokens kept for later jobs may take on the disk, bytes: the least recently used go first; 0 means none is kept."""
    batch_concurrency: int = 4
    """Requests of batches that run at once, over all batches, at least 1; the engine's other places are for everybody else."""
    dataset_task_days: int = 7
    """Days for which dataset tasks and their findings are kept after their end; 0 keeps them. The files that they made stay."""
    waiting_dataset_tasks: int = 100
    """Dataset tasks of one project that may wait at once, those in work not counted; 0 means no limit."""
    import_from_hub: bool = False
    """True: dataset imports over the API may fetch `hf://` data sets from the Hugging Face hub."""
    max_context_tokens: int = 4096
    """Longest prompt plus answer that is served, tokens (a base model's own limit may be lower)."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Default aliases, name to model (JSON object; in `luthier.toml` the table `[aliases]`). Aliases made over the API win over them."""
    shutdown_dates: dict[str, str] = field(default_factory=dict)
    """Announced ends, model name to `YYYY-MM-DD`, told as `shutdown_date`; nothing is switched off (`[shutdown_dates]`)."""
    requests_per_minute: int = 0
    """Calls of chat, completions and responses that one key may make in a minute; 0 means no limit. A key may have its own."""
    tokens_per_minute: int = 0
    """Tokens, prompt and answer, that one key may use in a minute; 0 means no limit. A key may have its own."""
    concurrent_generations: int = 0
    """Calls of chat, completions and responses that one key may have under way at once; 0 means no limit. A key may have its own."""
    jobs_per_day: int = 0
    """Fine-tuning jobs that one key may create in 24 hours; 0 means no limit. A key may have its own."""
    bad_keys_per_minute: int = 20
    """Different wrong keys that one address may try in a minute before it is answered 429; 0 means no limit."""
    strict_account_headers: bool = False
    """True: `OpenAI-Organization` and `OpenAI-Project` headers must name ours. False: values from elsewhere are ignored."""
    webhooks_allow_http: bool = False
    """True: webhook endpoints may have ``http`` addresses, without encryption."""
    webhooks_allow_private: bool = False
    """True: webhooks may go to private, loopback and link-local addresses, and to any port. Whoever holds the key reaches them then."""

    @property
    def devices(self) -> tuple[str, ...]:
        """What ``device`` names, one by one."""
        return tuple(self.device.split(","))

    @property
    def state_database(self) -> Path:
        """SQLite file with all state."""
        return self.data_dir / "state.db"

    @property
    def api_key_file(self) -> Path:
        """File that holds the API key alone, mode 0600."""
        return self.data_dir / "api_key"

    @property
    def session_secret_file(self) -> Path:
        """File that holds the secret by which the dashboard's cookies are signed, mode 0600. Without it everybody logs in anew."""
        return self.data_dir / "session_secret"

    @property
    def blobs_dir(self) -> Path:
        """Uploaded and result files by SHA-256."""
        return self.data_dir / "blobs"

    @property
    def uploads_dir(self) -> Path:
        """Parts of uploads that are not complete yet."""
        return self.data_dir / "uploads"

    @property
    def batches_dir(self) -> Path:
        """One folder per running batch: what is answered so far."""
        return self.data_dir / "batches"

    @property
    def tokens_dir(self) -> Path:
        """Tokens of training files, kept for later jobs. May be removed while the server is stopped."""
        return self.data_dir / "cache" / "tokens"

    @property
    def datasets_dir(self) -> Path:
        """One folder per dataset task: its findings and its process's log."""
        return self.data_dir / "datasets"

    @property
    def models_dir(self) -> Path:
        """Published adapters and full models, one folder each."""
        return self.data_dir / "models"

    @property
    def bases_dir(self) -> Path:
        """Base models that an operator added, one folder each."""
        return self.data_dir / "bases"

    @property
    def runs_dir(self) -> Path:
        """One folder per job: spec, trace log, resume states, child's output."""
        return self.data_dir / "runs"

    def run_dir(self, job_id: str) -> Path:
        """The folder of one job's run."""
        return self.runs_dir / job_id

    def resolve_model_path(self, path: str) -> Path:
        """The absolute folder of a ``ModelRecord.path``: ``builtin:NAME`` lies in the package, the rest in the data directory."""
        if path.startswith("builtin:"):
            return PACKAGE_DIR / "models" / "builtin" / path.removeprefix("builtin:")
        return (self.data_dir / path).resolve()

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for a child process; ``from_environment`` reads them back."""
        return {_variable(f.name): _text(getattr(self, f.name)) for f in fields(self)}


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _variable(name: str) -> str:
    return "LUTHIER_" + name.upper()


def _parse_table(text: str) -> dict[str, str]:
    table = json.loads(text or "{}")
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError("not an object of strings")
    return table


def _parse(name: str, kind: object, text: str) -> object:
    try:
        if kind == dict[str, str]:
            return _parse_table(text)
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except (ValueError, KeyError) as error:
        raise InvalidRequest(f"{_variable(name)} has the value {text!r}, which is not a {_kind_name(kind)}.") from error
    return Path(text) if kind is Path else text


def _kind_name(kind: object) -> str:
    return "JSON object of strings" if kind == dict[str, str] else str(getattr(kind, "__name__", kind))


def _check_dates(dates: Mapping[str, str]) -> None:
    for name, text in dates.items():
        try:
            datetime.datetime.strptime(text, "%Y-%m-%d")
        except ValueError as error:
            raise InvalidRequest(f"The shutdown date of {name!r} is {text!r}, which is not a date like 2027-01-14.") from error


_NOT_NEGATIVE = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_generations",
    "jobs_per_day",
    "bad_keys_per_minute",
    "token_cache_bytes",
    "dataset_task_days",
    "waiting_dataset_tasks",
)


def _check_limits(settings: Settings) -> None:
    for name in _NOT_NEGATIVE:
        value = getattr(settings, name)
        if value < 0:
            raise InvalidRequest(f"{_variable(name)} has the value {value}, but must be 0 (no limit) or more.")


_AT_LEAST_ONE = ("group_jobs", "train_processes")


def _check_counts(settings: Settings) -> None:
    for name in _AT_LEAST_ONE:
        value = getattr(settings, name)
        if value < 1:
            raise InvalidRequest(f"{_variable(name)} has the value {value}, but must be 1 or more.")


def _check_device(settings: Settings) -> None:
    known = re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|cuda:\d{1,3}(,cuda:\d{1,3})+", settings.device)
    if known is None or len(set(settings.devices)) < len(settings.devices):
        raise InvalidRequest(
            f"LUTHIER_DEVICE has the value {settings.device!r}, but must be auto, cpu, cuda, cuda:N, or several different GPUs as in "
            "cuda:0,cuda:1."
        )
    if settings.precision not in ("auto", "float32", "bfloat16", "mixed"):
        raise InvalidRequest(f"LUTHIER_PRECISION has the value {settings.precision!r}, but must be auto, float32, bfloat16 or mixed.")


def from_environment(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings from ``LUTHIER_*`` variables; keyword arguments that are not None win.

    Raises:
        InvalidRequest: a variable's text does not fit its type, or the aliases in it are none.
    """
    source = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for f in fields(Settings):
        text = source.get(_variable(f.name))
        if text is not None:
            values[f.name] = _parse(f.name, f.type, text)
    values.update({k: v for k, v in overrides.items() if v is not None})
    settings = replace(Settings(), **values)  # type: ignore[arg-type]
    check_alias_table(settings.aliases)
    _check_dates(settings.shutdown_dates)
    _check_limits(settings)
    _check_counts(settings)
    _check_device(settings)
    _check_prices(settings)
    return settings


def _check_prices(settings: Settings) -> None:
    for name, text in settings.openai_prices.items():
        try:
            sound = 0 <= float(text) < math.inf
        except ValueError:
            sound = False
        if not sound:
            raise InvalidRequest(f"LUTHIER_OPENAI_PRICES gives {name!r} the price {text!r}, which is not a number of dollars.")
    for name in ("logger_grace_seconds", "train_memory_bytes", "price_per_hour", "price_per_million_tokens"):
        if not 0 <= getattr(settings, name) < math.inf:
            raise InvalidRequest(f"{_variable(name)} must be 0 or more.")
