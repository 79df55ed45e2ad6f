"""A base model on the Hugging Face hub: which one is meant, what it consists of at which commit, and whether its files may be taken.

What it does: reads ``OWNER/NAME[@REVISION]``, asks the hub once, chooses the files that a causal language model needs. What it does
not: download (``hub_download.py``). Called by ``add_base.py``. The access token is the one that ``hf`` uses (``HF_TOKEN``, or the file of
``hf auth login``); it is handed to the library and never printed.
"""

import errno
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import AuthenticationFailed, InvalidRequest, LuthierError, NotFound, PermissionRefused, StorageFull, Unavailable

HUB = "hf://"
_SOURCE = re.compile(r"(?:hf://)?(?P<repo>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_FILE = re.compile(r"[A-Za-z0-9][\w.-]*")
# What a causal LM consists of; all else (pickles, GGUF, ONNX, code, images, folders) stays where it is.
_SMALL = (".json", ".jinja", ".model")
_NAMED = ("merges.txt", "README.md")
_MOST_SMALL_BYTES = 64 * 1024 * 1024
_SECONDS = 20.0
DOWNLOADS_ANEW = "Run the command again: what has come is kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """What a person asked for."""

    repo: str
    """``OWNER/NAME``."""
    revision: str | None
    """Branch, tag or commit; None for the main branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository at one commit."""

    name: str
    num_bytes: int
    sha256: str | None
    """Known for large files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A repository at one commit."""

    repo: str
    commit: str
    licence: str | None
    """As the card's header names it."""
    num_parameters: int | None
    """As the hub has counted them; None where it has not."""
    files: tuple[HubFile, ...]
    """Those to fetch."""

    @property
    def address(self) -> str:
        """The model and the commit in one word, as it is recorded."""
        return f"{HUB}{self.repo}@{self.commit}"

    @property
    def num_bytes(self) -> int:
        """Of all files to fetch."""
        return sum(file.num_bytes for file in self.files)

    @property
    def weight_bytes(self) -> int:
        """Of the weights among them."""
        return sum(file.num_bytes for file in self.files if file.name.endswith(".safetensors"))


def parse_source(text: str) -> HubSource | None:
    """``hf://OWNER/NAME@REVISION`` with scheme and revision optional; a single word needs the scheme. None: it is no hub id."""
    match = _SOURCE.fullmatch(text)
    if match is None or ("/" not in match["repo"] and not text.startswith(HUB)):
        return None
    return HubSource(repo=match["repo"], revision=match["revision"])


def look_up(source: HubSource) -> HubModel:
    """Ask the hub (``HF_ENDPOINT`` where it is set) what the model is at this revision.

    Raises:
        InvalidRequest: it is no causal language model in safetensors with its tokenizer.
        NotFound, AuthenticationFailed, PermissionRefused, Unavailable: see ``hub_errors``.
    """
    hub = hub_library()
    with hub_errors(source.repo, source.revision):
        info = hub.HfApi(library_name="luthier").model_info(source.repo, revision=source.revision, files_metadata=True, timeout=_SECONDS)
    commit = str(info.sha or "")
    if not _COMMIT.fullmatch(commit):
        raise Unavailable(f"The hub names no commit for {source.repo}.")
    files = tuple(_file(sibling) for sibling in info.siblings or ())
    counted = getattr(info.safetensors, "total", None)
    return HubModel(
        repo=source.repo,
        commit=commit,
        licence=_licence(info.card_data),
        num_parameters=counted if isinstance(counted, int) and counted > 0 else None,
        files=choose_files(files, source.repo),
    )


def choose_files(files: Sequence[HubFile], repo: str) -> tuple[HubFile, ...]:
    """The files that a causal language model needs: config, tokenizer, template, card, and its weights once.

    Raises:
        InvalidRequest: one that must be there is not.
    """
    names = [file.name for file in files]
    weights = set(weight_names(names))
    if not weights:
        other = next((kind for kind in ("bin", "gguf", "onnx") if any(name.endswith(f".{kind}") for name in names)), None)
        what = f"holds .{other} weights only" if other else "holds no weights"
        raise InvalidRequest(f"{repo} {what}; a base model needs *.safetensors at the top of its repository.")
    for needed in ("config.json", "tokenizer.json"):
        if needed not in names:
            raise InvalidRequest(f"{repo} has no {needed} at the top of its repository.")
    small = {file.name for file in files if is_small_file(file.name) and file.num_bytes <= _MOST_SMALL_BYTES}
    return tuple(sorted((file for file in files if file.name in weights | small), key=lambda file: (file.name in weights, file.name)))


def weight_names(names: Sequence[str]) -> list[str]:
    """The files with weights among those of a folder: ``model.safetensors``, else its numbered parts, else whatever is safetensors."""
    safe = [name for name in names if name.endswith(".safetensors") and _FILE.fullmatch(name)]
    if "model.safetensors" in safe:
        return ["model.safetensors"]
    return [name for name in safe if _WEIGHTS.fullmatch(name)] or safe


def is_small_file(name: str) -> bool:
    """True for config, tokenizer, template and card at the top of a repository."""
    plain = _FILE.fullmatch(name) is not None
    return plain and (name in _NAMED or (name.endswith(_SMALL) and not name.endswith((".bin.index.json", ".onnx.json"))))


def hub_library() -> Any:
    """``huggingface_hub``, which transformers brings; its own downloads through Xet are off unless asked for: they do not resume."""
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise InvalidRequest("For models of the hub huggingface_hub is needed. Install it with: pip install huggingface_hub") from error


def transport_errors() -> tuple[type[BaseException], ...]:
    """What the library's HTTP client raises when the network fails: its name changed between the library's versions."""
    errors = importlib.import_module("huggingface_hub.errors")
    base = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return (base, OSError)


@contextmanager
def hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what the library raises into one sentence.

    Raises:
        NotFound: no such model, revision or file.
        PermissionRefused: gated or disabled.
        AuthenticationFailed: the token is refused.
        StorageFull: the disk is full.
        Unavailable: the hub cannot be reached, is offline by ``HF_HUB_OFFLINE``, or answers nonsense.
    """
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except LuthierError:
        raise
    except (*transport_errors(), ValueError, TypeError, KeyError) as error:
        raise _told(error, errors, repo, revision) from error


def _told(error: BaseException, errors: Any, repo: str, revision: str | None) -> LuthierError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return PermissionRefused(
            f"{repo} is gated: its licence must be accepted on the hub's page of the model, by the account whose token is used here. "
            "Then log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, errors.DisabledRepoError):
        return PermissionRefused(f"The hub has disabled access to {repo}.")
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{repo} has no revision {revision!r} on the hub.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(f"The hub has no model {repo}, or it is private: then log in with `hf auth login` or set HF_TOKEN.")
    if isinstance(error, errors.EntryNotFoundError):
        return NotFound(f"A file of {repo} is no longer on the hub.")
    if status == 401:
        return AuthenticationFailed("The hub refuses the access token. Log in anew with `hf auth login`, or mend HF_TOKEN.")
    if status == 403:
        return PermissionRefused(f"The access token may not read {repo}.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unavailable("HF_HUB_OFFLINE is set, so that the hub is not asked. Unset it, or give a local folder.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"The disk is full. {DOWNLOADS_ANEW}")
    if isinstance(error, OSError) and error.filename:
        return LuthierError(f"{error.filename} cannot be written ({error.strerror}).")
    if status is not None:
        return Unavailable(f"The hub answered with status {status} for {repo}. {DOWNLOADS_ANEW}")
    if isinstance(error, ValueError | TypeError | KeyError):
        return Unavailable(f"What the hub answered about {repo} cannot be understood ({type(error).__name__}).")
    return Unavailable(f"The hub cannot be reached ({type(error).__name__}). {DOWNLOADS_ANEW} Or give a local folder.")


def _file(sibling: Any) -> HubFile:
    sha256 = str(getattr(sibling.lfs, "sha256", None) or "")
    known = sha256 if _SHA256.fullmatch(sha256) else None
    return HubFile(name=str(sibling.rfilename), num_bytes=max(0, int(sibling.size or 0)), sha256=known)


def _licence(card: Any) -> str | None:
    if card is None:
        return None
    chosen = card.get("license")
    if chosen in (None, "other"):
        chosen = card.get("license_name") or chosen
    text = ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen or "")
    return "".join(mark for mark in text if mark.isprintable())[:200] or None


def staging_folder(data_dir: Path, model: HubModel) -> Path:
    """Where the files of one model at one commit come in; what is there is gone on with."""
    return data_dir / "downloads" / f"{model.repo.replace('/', '--')}--{model.commit[:12]}"
