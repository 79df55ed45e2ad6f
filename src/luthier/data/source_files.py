"""What a source names: one file, a folder of files, or a data set of the Hugging Face hub.

What it does: finds the files and gives their rows in the order of their names. A folder holds either data files (``.csv``,
``.jsonl``, ...) or texts: ``NAME.prompt.txt`` beside ``NAME.completion.txt``, and conversations ``NAME.txt`` whose turns begin
with ``System:``, ``User:`` or ``Assistant:`` at the start of a line. What it does not: read formats (``sources.py``). Called by
``import_rows.py``.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.data.role_names import role_of
from luthier.data.source_row import SourceRow
from luthier.data.sources import READERS, read_rows

HUB = "hf://"
Fetch = Callable[[str, str | None], Path]
"""Data set and revision -> the local folder with its files."""
_HUB_NAME = re.compile(r"(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>[^@]+))?")
_SPLITS = re.compile(r"(?:^|[^a-z])(train|valid|validation|val|dev|test|eval)(?:[^a-z]|$)")
_TURN = re.compile(r"^(System|Developer|User|Human|Assistant|Bot|AI|GPT):[ \t]*", re.MULTILINE | re.IGNORECASE)


def rows_of(source: str, *, max_line_bytes: int, note: Callable[[str], None], fetch: Fetch | None = None) -> Iterator[SourceRow]:
    """The rows of a source.

    Args:
        source: a path, or ``hf://OWNER/NAME[@REVISION][/PATH]``.
        max_line_bytes: the longest line, cell or text.
        note: is told what was chosen, where there was a choice.
        fetch: gets a data set of the hub; the default downloads it through ``huggingface_hub``.

    Raises:
        InvalidRequest: there is nothing, or nothing that can be read.
        Unavailable: the hub cannot be reached.
    """
    if source.startswith(HUB):
        path = _from_hub(source, fetch or download)
        if path.is_dir():
            return _many(_training_files(path, note), path, max_line_bytes)
    else:
        path = Path(source)
    if path.is_dir():
        return _folder(path, max_line_bytes)
    if not path.is_file():
        raise InvalidRequest(f"There is no file or folder {source}.")
    return read_rows(path, max_line_bytes=max_line_bytes)


def download(name: str, revision: str | None) -> Path:
    """The data files of a data set of the hub, in its local cache.

    Raises:
        InvalidRequest: ``huggingface_hub`` is missing.
        Unavailable: the hub does not give it.
    """
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InvalidRequest("For hf:// huggingface_hub is needed. Install it with: pip install 'luthier[data]'") from error
    wanted = [f"*{ending}" for ending in READERS]
    try:
        return Path(hub.snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise Unavailable(f"The data set {name} could not be fetched: {str(error).strip().splitlines()[0]}") from error


def _from_hub(source: str, fetch: Fetch) -> Path:
    match = _HUB_NAME.fullmatch(source.removeprefix(HUB))
    if match is None:
        raise InvalidRequest(f"{source} is not of the form hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/PATH.")
    folder = fetch(match["name"], match["revision"])
    inside = Path(match["path"] or "")
    path = folder / inside
    if inside.is_absolute() or ".." in inside.parts or not path.exists():
        files = ", ".join(file.relative_to(folder).as_posix() for file in _data_files(folder)[:10])
        raise InvalidRequest(f"The data set {match['name']} has no {match['path']}. It has: {files or 'no data files'}.")
    return path


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in READERS)


def _training_files(folder: Path, note: Callable[[str], None]) -> list[Path]:
    """The training files where the names tell splits apart, else all."""
    files = _data_files(folder)
    split = {file: _SPLITS.search(file.relative_to(folder).as_posix().lower()) for file in files}
    train = [file for file, match in split.items() if match is not None and match.group(1) == "train"]
    if train and len(train) < len(files):
        left = ", ".join(file.relative_to(folder).as_posix() for file in files if file not in train)
        note(f"Of the data set, its training files are taken. Left out: {left}")
        return train
    if not train and any(split.values()):
        names = ", ".join(file.relative_to(folder).as_posix() for file in files)
        raise InvalidRequest(f"The data set has no training files. Name one after the data set: {names}.")
    return files


def _folder(folder: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    texts = sorted(folder.rglob("*.txt"))
    files = _data_files(folder)
    if texts and files:
        raise InvalidRequest(f"{folder} holds both texts and data files ({texts[0].name}, {files[0].name}). Import them apart.")
    if texts:
        return _texts(texts, folder, max_line_bytes)
    return _many(files, folder, max_line_bytes)


def _many(files: list[Path], folder: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    if not files:
        raise InvalidRequest(f"The folder {folder} holds no {', '.join(READERS)} and no .txt file.")
    return _chained(files, folder, max_line_bytes)


def _chained(files: list[Path], folder: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    for file in files:
        name = file.relative_to(folder).as_posix()
        for row in read_rows(file, max_line_bytes=max_line_bytes):
            yield SourceRow(f"{name}, {row.place}" if len(files) > 1 else row.place, row.value, row.fault)


def _texts(texts: list[Path], folder: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    there = set(texts)
    for file in texts:
        place = file.relative_to(folder).as_posix()
        if file.name.endswith(".completion.txt"):
            if file.with_name(file.name.removesuffix(".completion.txt") + ".prompt.txt") not in there:
                yield SourceRow(place, None, "there is no .prompt.txt beside it.")
            continue
        parts = [file]
        if file.name.endswith(".prompt.txt"):
            parts.append(file.with_name(file.name.removesuffix(".prompt.txt") + ".completion.txt"))
            if parts[1] not in there:
                yield SourceRow(place, None, "there is no .completion.txt beside it.")
                continue
        if sum(part.stat().st_size for part in parts) > max_line_bytes:
            yield SourceRow(place, None, f"it is longer than {max_line_bytes} bytes.")
            continue
        try:
            contents = [part.read_text(encoding="utf-8-sig").strip() for part in parts]
        except UnicodeDecodeError:
            yield SourceRow(place, None, "it is not UTF-8.")
            continue
        if len(contents) == 2:
            yield SourceRow(place, {"messages": _talk(("user", contents[0]), ("assistant", contents[1]))})
        else:
            yield _conversation(place, contents[0])


def _talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def _conversation(place: str, text: str) -> SourceRow:
    turns = list(_TURN.finditer(text))
    if not turns or turns[0].start() != 0:
        return SourceRow(place, None, "its first line does not begin with System:, User: or Assistant:.")
    ends = [*(turn.start() for turn in turns[1:]), len(text)]
    found = [(role_of(turn.group(1)) or "", text[turn.end() : end].strip()) for turn, end in zip(turns, ends, strict=True)]
    return SourceRow(place, {"messages": _talk(*found)})
