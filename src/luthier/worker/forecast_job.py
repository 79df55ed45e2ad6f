"""Forecasts a job from local files: ``python -m luthier.worker.forecast_job``, started by the command line.

What it does: finds the model, forks the process that measures, and writes JSON lines to standard output: ``{"progress": "steps"}``
while it goes on, ``{"forecast": {...}}`` at the end. What it does not: measure (``forecast_child.py``), need a server, or print for
people.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.quantization import NF4
from luthier.core.settings import OPENAI_BASE_NAMES, Settings, from_environment
from luthier.core.specs import Hyperparameters, LoraKind, ObjectiveKind, TuningMethod, options_from
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database
from luthier.storage.models import ModelStore
from luthier.worker.entry import carry_out_forecast
from luthier.worker.forecast_order import FAILED, USAGE, ForecastOrder
from luthier.worker.lanes import forkserver

BUILTIN = "luthier-mini"


def find_model(settings: Settings, name: str) -> tuple[ModelRecord, ModelRecord | None]:
    """The base that trains, and the tuned model that is continued, if any.

    Args:
        settings: where the data directory is.
        name: a served model, an alias, an OpenAI base name, or a model folder on this machine.

    Raises:
        InvalidRequest: there is no such model.
    """
    folder = Path(name)
    if folder.is_dir() and (folder / "config.json").is_file():
        return _base(folder.resolve().name, str(folder.resolve())), None
    asked = settings.aliases.get(name, name)
    records: ModelStore | None = None
    if settings.state_database.exists():
        database = Database(settings.state_database)
        records = ModelStore(database)
        alias = AliasStore(database).get(name)
        asked = asked if alias is None else alias.target
    if asked in OPENAI_BASE_NAMES:
        asked = settings.default_base
    record = records.get(asked) if records is not None else None
    if record is None and asked == BUILTIN:
        record = _base(BUILTIN, f"builtin:{BUILTIN}")
    if record is None:
        raise InvalidRequest(f"There is no model {name!r} in {settings.data_dir}, and no model folder of that name.")
    if record.kind is ModelKind.BASE:
        return record, None
    base = records.get(record.base) if records is not None else None
    if base is None and record.base == BUILTIN:
        base = _base(BUILTIN, f"builtin:{BUILTIN}")
    if base is None:
        raise InvalidRequest(f"The base {record.base} of {name!r} is not there any more.")
    return base, record


def _base(name: str, path: str) -> ModelRecord:
    return ModelRecord(name=name, kind=ModelKind.BASE, base=name, path=path, created_at=int(time.time()), owned_by="luthier")


def run(order: ForecastOrder) -> tuple[int, str]:
    """Fork, and pass on what the measuring process says; returns the exit code, and why where it is not 0.

    Raises:
        LuthierError: that process ended without a word.
    """
    context = forkserver()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=carry_out_forecast, args=(order, there), name="luthier-forecast", daemon=True)
    process.start()
    there.close()
    while True:
        try:
            kind, value = here.recv()
        except EOFError:
            process.join()
            raise LuthierError(
                f"The measuring process ended with {process.exitcode} and no forecast; without memory enough the system ends it like this."
            ) from None
        if kind == "refused":
            return value
        print(json.dumps({"forecast" if kind == "done" else kind: value}), flush=True)
        if kind == "done":
            return 0, ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--training-file", type=Path, required=True)
    parser.add_argument("--validation-file", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--n-epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate-multiplier", type=float)
    parser.add_argument("--method", choices=["supervised", "dpo"], default=ObjectiveKind.SUPERVISED.value)
    parser.add_argument("--adapter", choices=[*LoraKind, TuningMethod.FULL], default=LoraKind.LORA.value)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--quantization", choices=[NF4])
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser


def main() -> None:
    """Command line; the settings come from the environment."""
    asked = _parser().parse_args()
    settings = from_environment()
    try:
        base, parent = find_model(settings, asked.model)
        order = ForecastOrder(
            settings=settings,
            asked_model=asked.model,
            base=base,
            parent=parent,
            training=asked.training_file.resolve(),
            validation=asked.validation_file.resolve() if asked.validation_file else None,
            hyperparameters=Hyperparameters(
                n_epochs=asked.n_epochs, batch_size=asked.batch_size, learning_rate_multiplier=asked.learning_rate_multiplier
            ),
            objective=ObjectiveKind(asked.method),
            options=options_from({name: getattr(asked, name) for name in ("adapter", "rank", "quantization", "max_length")}),
            seed=asked.seed,
            seconds=asked.seconds,
        )
        code, sentence = run(order)
    except LuthierError as error:
        code, sentence = USAGE if isinstance(error, InvalidRequest) else FAILED, error.message
    except KeyboardInterrupt:
        sys.exit(130)
    if code:
        sys.exit(_end(code, sentence))


def _end(code: int, sentence: str) -> int:
    """The sentence on standard error, in one line; returns the code."""
    print(f"luthier: {' '.join(sentence.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
