"""``luthier.toml``: settings in a file, for the commands and the server they start.

What it does: reads the file that ``LUTHIER_CONFIG`` names, or ``luthier.toml`` in the current directory if there is one, and lays
it under the environment: command line over environment over file. What it does not: know what the settings mean
(``core/settings.py``). Called by the commands; the server's other processes get the result as environment variables.
"""

import datetime
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings, from_environment

FILE_NAME = "luthier.toml"
_KNOWN: dict[str, Any] = {f.name: f.type for f in fields(Settings)}
_TOML_TYPES: dict[Any, Any] = {bool: bool, int: int, float: int | float, str: str, Path: str}


def read_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """The settings: keyword arguments that are not None, then ``LUTHIER_*`` variables, then the file, then the defaults.

    Raises:
        InvalidRequest: the named file is not there, is no TOML, or holds something that is no setting or does not fit one.
    """
    env = os.environ if environ is None else environ
    return from_environment({**_variables(env), **env}, **overrides)


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    """The file's settings as the environment variables that would say the same."""
    named = env.get("LUTHIER_CONFIG")
    path = Path(named or FILE_NAME)
    if not named and not path.is_file():
        return {}
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"The settings file {path} cannot be read ({error.strerror or error}).") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"The settings file {path} is not valid TOML: {error}.") from error
    return {"LUTHIER_" + name.upper(): _text(path, name, value) for name, value in plain.items()}


def _text(path: Path, name: str, value: Any) -> str:
    kind = _KNOWN.get(name)
    if kind is None:
        raise InvalidRequest(f"The settings file {path} names '{name}', which is not a setting. Settings are: {', '.join(_KNOWN)}.")
    if kind == dict[str, str]:
        # TOML has dates of its own, so that one may be written without quotes.
        table = {key: str(one) for key, one in value.items() if isinstance(one, str | datetime.date)} if isinstance(value, dict) else {}
        if not isinstance(value, dict) or len(table) != len(value):
            raise InvalidRequest(f"In the settings file {path}, [{name}] must be a table of texts; names with dots or '@' need quotes.")
        return json.dumps(table)
    if not isinstance(value, _TOML_TYPES[kind]) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"In the settings file {path}, '{name}' has the value {value!r}, which is not a {kind.__name__}.")
    return str(value)
