"""The ``luthier`` command in this process, from its arguments to its exit code. Called by the unit tests of ``cli``."""

from click.testing import CliRunner, Result

from luthier.cli.main import cli

# None takes a variable away: no test may find a server of the person who runs it.
NO_SERVER = dict.fromkeys(("LUTHIER_URL", "LUTHIER_API_KEY", "LUTHIER_DATA_DIR", "OPENAI_BASE_URL", "OPENAI_API_KEY"))


def luthier(*arguments: str, url: str | None = None, key: str = "sk-x", stdin: str | bytes | None = None, **environ: str) -> Result:
    """Run a command; ``url`` and ``key`` become its options. Standard output and error are apart in the result."""
    place = [] if url is None else ["--url", url, "--api-key", key]
    return CliRunner(env={**NO_SERVER, "COLUMNS": "200", **environ}).invoke(cli, [*arguments, *place], input=stdin)


def one_line(result: Result) -> str:
    """Standard error, which must be one line that ends with a command to try."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("luthier: "), line
    assert "luthier " in line.removeprefix("luthier: "), line
    assert result.stdout == ""
    return line
