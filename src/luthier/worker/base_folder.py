"""From what a person calls a model to its folder, without a server: for the processes behind ``luthier data``.

What it does: a folder on this machine, the model inside the package, a model or alias of the data directory, or one of OpenAI's
names, which stand for the default base as in ``api/model_names.py``. What it does not: load anything. Called by
``show_row.py`` and ``row_losses.py``. No torch; the database is opened only for a name that nothing else explains.
"""

from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.settings import OPENAI_BASE_NAMES, OPENAI_SNAPSHOTS, PACKAGE_DIR, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """Where a model's files lie."""

    name: str
    """The model's own name, or the folder's."""
    folder: Path
    """Tokenizer, template and complete weights: of the base where the model is an adapter on it."""
    adapter: Path | None = None


def find_model(named: str, settings: Settings) -> FoundModel:
    """The model that a name or a path stands for.

    Raises:
        NotFound: nothing does.
        InvalidRequest: the folder is not a model's.
    """
    if named.startswith((".", "/", "~")):
        return _of_folder(Path(named).expanduser())
    found = _builtin(named) or _registered(named, settings)
    if found is None:
        standing = settings.aliases.get(named) or settings.aliases.get(OPENAI_SNAPSHOTS.get(named, named))
        standing = standing or (settings.default_base if named in OPENAI_BASE_NAMES else None)
        found = None if standing is None else _builtin(standing) or _registered(standing, settings)
    if found is None and Path(named).is_dir():
        return _of_folder(Path(named))
    if found is None:
        bases = ", ".join(sorted({*_builtin_names(), *_registered_bases(settings)}))
        raise NotFound(f"No model is named {named!r} here, and no folder. Base models here: {bases}. See also --data-dir.")
    return found


def _of_folder(folder: Path) -> FoundModel:
    if not (folder / "tokenizer.json").is_file():
        raise InvalidRequest(f"{folder} is not a folder with a model: it has no tokenizer.json.")
    return FoundModel(name=folder.resolve().name, folder=folder)


def _builtin_names() -> list[str]:
    return [path.parent.name for path in (PACKAGE_DIR / "models" / "builtin").glob("*/config.json")]


def _builtin(name: str) -> FoundModel | None:
    folder = PACKAGE_DIR / "models" / "builtin" / name
    return FoundModel(name=name, folder=folder) if name in _builtin_names() else None


def _registered(name: str, settings: Settings) -> FoundModel | None:
    """What the data directory has under a name: a model, or an alias that was made over the API."""
    if not settings.state_database.is_file():
        return None
    # SQLAlchemy takes a third of a second to import.
    from luthier.core.targets import model_target
    from luthier.storage.database import Database, migrate
    from luthier.storage.models import ModelStore

    migrate(settings.state_database)
    database = Database(settings.state_database)
    try:
        models = ModelStore(database)
        record = models.get(name)
        if record is None:
            target = models.alias_target(name) or models.alias_target(OPENAI_SNAPSHOTS.get(name, name))
            record = None if target is None else models.get(target)
        base = None if record is None else models.get(record.base)
    finally:
        database.close()
    if record is None or base is None:
        return None
    target = model_target(record, base, settings)
    adapter = None if target.adapter_path is None else Path(target.adapter_path)
    return FoundModel(name=record.name, folder=Path(target.base_path), adapter=adapter)


def _registered_bases(settings: Settings) -> list[str]:
    return [path.parent.name for path in settings.bases_dir.glob("*/config.json")]
