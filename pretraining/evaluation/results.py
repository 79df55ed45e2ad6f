"""The results file: one JSON file that grows section by section and survives an interruption.

What it does: keep every measured result on disk at once, go on with a section that was interrupted, replace a section that was
complete, refuse the results of another model. What it does not: measure or print tables. Called by ``pretraining/evaluate.py`` and,
through ``Section.measured``, by every section.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretraining.errors import PretrainingError


class Section:
    """The results of one section, each under a key such as ``sentiment seed 1``."""

    def __init__(self, name: str, stored: dict[str, Any], save: Callable[[], None]) -> None:
        self.name = name
        self._stored = stored
        self._save = save
        self._asked: list[str] = []

    def measured(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result under ``key``: kept from an interrupted run, or measured now and saved at once."""
        self._asked.append(key)
        results = self._stored["results"]
        if key in results:
            print(f"{self.name}: {key}: kept from the run that was interrupted", flush=True)
            return results[key]
        began = time.perf_counter()
        # Through JSON, so that a result looks the same whether it was measured now or read again.
        results[key] = json.loads(json.dumps(measure()))
        self._save()
        print(f"{self.name}: {key}: done in {time.perf_counter() - began:.1f} s", flush=True)
        return results[key]

    def finish(self) -> None:
        """Mark the section complete; results of an interrupted run that this one did not ask for are dropped."""
        self._stored["results"] = {key: self._stored["results"][key] for key in self._asked}
        self._stored["complete"] = True
        self._save()


class Results:
    """All sections of one model."""

    def __init__(self, path: Path | None, model: dict[str, Any]) -> None:
        """Open a results file, or begin one.

        Args:
            path: the file; None keeps the results in memory only.
            model: what is measured; its ``revision`` must be the file's.

        Raises:
            PretrainingError: the file is no results file, or holds those of another model.
        """
        self._path = path
        self._content: dict[str, Any] = {"model": model, "sections": {}}
        if path is not None and path.exists():
            self._content = _read(path)
            if self._content["model"].get("revision") != model["revision"]:
                raise PretrainingError(
                    f"{path} holds the results of another model (revision {str(self._content['model'].get('revision'))[:12]}, "
                    f"this one is {model['revision'][:12]}). Give another --out, or delete it."
                )

    @classmethod
    def read(cls, path: Path) -> "Results":
        """The results in a file, whatever model they are of.

        Raises:
            PretrainingError: there is no such file, or it is no results file.
        """
        if not path.is_file():
            raise PretrainingError(f"{path} is missing: run python -m pretraining.evaluate --out {path} first.")
        return cls(path, _read(path)["model"])

    def section(self, name: str, machine: dict[str, Any]) -> Section:
        """Begin a section anew, or go on with it where an interrupted run stopped."""
        sections = self._content["sections"]
        if name not in sections or sections[name]["complete"]:
            sections[name] = {"complete": False, "machine": machine, "results": {}}
        return Section(name, sections[name], self._save)

    @property
    def model(self) -> dict[str, Any]:
        """What is measured."""
        return self._content["model"]

    def of(self, name: str) -> dict[str, Any]:
        """The results of one complete section by key; empty when it was never measured to its end."""
        section = self._content["sections"].get(name)
        return section["results"] if section is not None and section["complete"] else {}

    def machine_of(self, name: str) -> dict[str, Any]:
        """Where a section was measured. Raises KeyError when it was not."""
        return self._content["sections"][name]["machine"]

    def _save(self) -> None:
        if self._path is None:
            return
        partial = self._path.with_name(self._path.name + ".part")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._content, indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PretrainingError(f"{path} is no JSON file: {error}. Give another --out.") from error
    if not isinstance(content, dict) or not {"model", "sections"} <= content.keys():
        raise PretrainingError(f"{path} is no file of evaluation results. Give another --out.")
    return content
