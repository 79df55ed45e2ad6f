"""The whole command: exit codes, one line for each error, help with examples, completion, a light start."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from luthier.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from luthier.cli.main import cli
from luthier.core.errors import InvalidRequest, StorageFull, TooManyRequests
from tests.support.api_server import ApiServer
from tests.support.command_line import luthier, one_line
from tests.unit.cli.conftest import Run

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "command-line.md"


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every_command(below, (*path, name))


COMMANDS = list(every_command(cli))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_shows_an_example_of_its_own(path: tuple[str, ...]) -> None:
    result = luthier(*path, "--help")
    assert result.exit_code == 0
    usage, _, rest = result.stdout.partition("\n\n")
    assert usage.startswith("Usage: ")
    assert " ".join(["luthier", *path]) in " ".join(rest.split())


def test_the_commands_of_this_version_are_there() -> None:
    jobs = {"create", "forecast", "list", "get", "events", "cancel", "pause", "resume", "checkpoints", "wait", "rows"}
    files = {"upload", "list", "get", "content", "delete", "from-completions"}
    models = {"list", "get", "delete", "add", "alias", "aliases", "rollback", "unalias"}
    aliases = {"list", "get", "set", "rollback", "delete"}
    batches = {"create", "list", "get", "cancel", "wait", "results"}
    sweeps = {"run", "show", "list", "wait", "cancel"}
    data = {"check", "doctor", "export", "fix", "import", "losses", "redact", "show", "split", "tasks"}
    for group, names in (("data", data), ("batches", batches), ("jobs", jobs), ("files", files), ("models", models), ("aliases", aliases)):
        assert {p[1] for p in COMMANDS if p[:1] == (group,) and len(p) > 1} == names
    assert {p[1] for p in COMMANDS if p[:1] == ("sweep",) and len(p) > 1} == sweeps
    assert {"chat", "doctor", "completion"} <= {p[0] for p in COMMANDS if p}


LOCAL = {("jobs", "forecast")}
"""Commands outside of ``data`` that need no server."""
SILENT = {("serve",), ("demo",), ("trace",), ("chat",), ("completion",), ("files", "content"), ("models", "add"), ("batches", "results")}
"""Commands whose answer is no object of the API: a process, a picture, a text, bytes."""


@pytest.mark.parametrize("path", [p for p in COMMANDS if p not in SILENT | LOCAL], ids=" ".join)
def test_every_command_that_shows_objects_has_the_forms_for_scripts(path: tuple[str, ...]) -> None:
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), name)
        assert below is not None
        command = below
    if not isinstance(command, click.Group) and path[0] != "data":  # files on this machine: no server, no objects
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--quiet", "-q", "--url", "--api-key", "--data-dir"} <= options


def test_the_guide_shows_the_table_of_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(int(code), text) for code, text in rows] == [(int(code), text) for code, text in MEANINGS.items()]
    assert set(MEANINGS) == set(ExitCode)


def test_a_wrong_key_is_3(server: ApiServer) -> None:
    result = luthier("files", "list", url=server.url, key="sk-wrong")
    assert result.exit_code == 3
    assert one_line(result).endswith("Try: luthier doctor")


def test_no_key_is_3(tmp_path: Path) -> None:
    result = luthier("jobs", "list", "--data-dir", str(tmp_path))
    assert result.exit_code == 3
    assert "No API key" in one_line(result)


@pytest.mark.parametrize(
    "arguments", [("files", "list"), ("jobs", "get", "ftjob-x"), ("jobs", "wait", "ftjob-x"), ("models", "list"), ("chat", "m", "Hi")]
)
def test_nobody_there_is_6(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai.DEFAULT_MAX_RETRIES", 0)
    result = luthier(*arguments, url="http://127.0.0.1:9")
    assert result.exit_code == 6
    assert result.stderr.splitlines()[-1] == "luthier: No server answers at http://127.0.0.1:9. Start one with: luthier serve"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [("nothing",), ("jobs", "nothing"), ("files", "list", "--limit", "0"), ("chat",)])
def test_what_is_written_wrongly_is_2_and_names_the_help(arguments: tuple[str, ...]) -> None:
    result = luthier(*arguments)
    assert result.exit_code == 2
    path = [a for a in arguments if a != "nothing"][: 2 if arguments[0] == "files" else 1]
    assert one_line(result).endswith(f"Try: {' '.join(['luthier', *path])} --help")


@pytest.mark.parametrize("arguments", [(), ("jobs",), ("files",)])
def test_a_group_alone_shows_its_help(arguments: tuple[str, ...]) -> None:
    result = luthier(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_errors_of_ours_have_codes() -> None:
    assert exit_code_of(TooManyRequests("x")) == exit_code_of(StorageFull("x")) == ExitCode.FAILED
    assert exit_code_of(InvalidRequest("x")) == ExitCode.USAGE


def test_what_a_server_says_is_shown_as_text(run: Run) -> None:
    line = one_line(run("files", "get", "file-\x1b[2J\u202e"))
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("luthier.cli.files.show_page", broken)
    assert isinstance(run("files", "list").exception, ZeroDivisionError)


@pytest.mark.parametrize(("shell", "part"), [("bash", "complete -o nosort"), ("zsh", "#compdef luthier"), ("fish", "complete --no-files")])
def test_completion_prints_a_script(shell: str, part: str) -> None:
    result = luthier("completion", shell)
    assert result.exit_code == 0
    assert part in result.stdout
    assert "_LUTHIER_COMPLETE" in result.stdout


def test_completion_completes() -> None:
    asked = {"_LUTHIER_COMPLETE": "bash_complete", "COMP_WORDS": "luthier jobs c", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "luthier.cli.main"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,cancel", "plain,checkpoints", "plain,create"]


def test_help_loads_no_client_and_no_drawing() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from luthier.cli.main import cli; "
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0; "
        "print(sorted({'openai', 'rich', 'httpx2', 'torch', 'sqlalchemy', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
