"""Run the examples with other tools (examples/clients) against one real server, and write down what they did.

What it does: makes each tool's environment, starts one server over a temporary data directory, runs every example in an empty home
folder with nothing but the address and the key set, prints what was skipped against the committed list, and writes
docs/reference/clients.md when everything ran. What it does not: change a tool, or let an example see the user's own settings and
caches. Called by ``make test-clients`` (ARGS: names of examples; ``--keep-page`` writes nothing).
"""

import argparse
import ast
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from luthier import __version__
from scripts import make_client_env
from scripts.make_docs import first_sentence
from tests.support.server import ServerProcess

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "clients"
SKIPPED = EXAMPLES / "skipped.txt"
PAGE = ROOT / "docs" / "reference" / "clients.md"
EXAMPLE_SECONDS = 400
AT_ONCE = 3  # jobs are trained one after the other; the tools' start and waiting overlap
SHOWN_LINES = 30
INTRODUCTION = """# Other tools

<!-- Made by `make test-clients` from real runs. -->

Programs written for OpenAI's service, run unchanged: each in an environment of its own, with nothing but `OPENAI_BASE_URL` and
`OPENAI_API_KEY` set (what else one needs stands in its README). Every example uploads rows of
[translate-en-fr](../../examples/translate-en-fr/README.md), trains on them, and uses or records the result; it fails where something
is not as it should be. Three run at a time and wait for each other's jobs, on a
machine that did other work too: the seconds say little about the tools.

"""


@dataclass(frozen=True)
class Outcome:
    """How one example ended."""

    name: str
    state: str
    """"passed", "failed" or "skipped"."""
    reason: str
    """Why it failed or was skipped."""
    seconds: float
    output: str
    """What it printed."""


def examples() -> list[str]:
    """The names of all examples."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/run.py"))


def pins(name: str) -> dict[str, str]:
    """Package -> version of an example's requirements; the first is the tool itself."""
    lines = (EXAMPLES / name / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {pair[0]: pair[1] for pair in pairs}


def listed_skips(text: str) -> set[str]:
    """The names in the committed list; what follows a name on its line is the reason."""
    return {line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")}


def differences(skipped: set[str], listed: set[str], asked: set[str]) -> list[str]:
    """What is wrong between what was skipped and the list, one sentence each."""
    wrong = [f"{name} was skipped and does not stand in {SKIPPED.relative_to(ROOT)}" for name in sorted(skipped - listed)]
    wrong += [
        f"{name} stands in {SKIPPED.relative_to(ROOT)} and was not skipped: take it off" for name in sorted((listed & asked) - skipped)
    ]
    return wrong


def environment_reason(name: str) -> tuple[str, str]:
    """("", "") when an example's environment is there; else the state and the reason."""
    command = [sys.executable, str(ROOT / "scripts" / "make_client_env.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return "", ""
    reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return ("skipped" if done.returncode == make_client_env.UNREACHABLE else "failed"), reason


def run_example(name: str, server: ServerProcess) -> Outcome:
    """Run one example in an empty home folder."""
    started = time.monotonic()
    python = make_client_env.environment(name) / "bin" / "python"
    with tempfile.TemporaryDirectory() as home:
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": home,
            "LANG": "C.UTF-8",
            "OPENAI_BASE_URL": server.url + "/v1",
            "OPENAI_API_KEY": server.key,
        }
        try:
            done = subprocess.run(
                [python, EXAMPLES / name / "run.py"],
                cwd=home,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=EXAMPLE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(name, "failed", f"not done after {EXAMPLE_SECONDS} s", time.monotonic() - started, "")
        output = done.stdout.replace(home, "~")
    seconds = time.monotonic() - started
    if done.returncode != 0:
        return Outcome(name, "failed", f"exit code {done.returncode}\n{done.stderr[-3000:]}", seconds, output)
    return Outcome(name, "passed", "", seconds, output)


def run_all(names: Sequence[str]) -> list[Outcome]:
    """Make the environments, start the server when any is there, run what can be run."""
    outcomes: list[Outcome] = []
    ready: list[str] = []
    for name in names:
        started = time.monotonic()
        state, reason = environment_reason(name)
        if state:
            outcomes.append(Outcome(name, state, reason, time.monotonic() - started, ""))
        else:
            ready.append(name)
    if not ready:
        return outcomes
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "data").start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for outcome in pool.map(lambda name: run_example(name, server), ready):
                    outcomes.append(outcome)
                    print(f"{outcome.name}: {outcome.state} in {outcome.seconds:.0f} s {outcome.reason}".rstrip(), flush=True)
            if any(outcome.state == "failed" for outcome in outcomes):
                print(server.logs())
        finally:
            server.stop()
    return outcomes


def page(outcomes: Sequence[Outcome], date: str) -> str:
    """The reference page of a run in which nothing failed."""
    where = f"Run on {date} with Luthier {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}.\n"
    parts = [INTRODUCTION, where, "\n| tool | version | `openai` beside it | result | seconds |\n|---|---|---|---|---|\n"]
    for outcome in outcomes:
        packages = pins(outcome.name)
        tool = next(iter(packages))
        parts.append(f"| {tool} | {packages[tool]} | {packages['openai']} | {outcome.state} | {outcome.seconds:.0f} |\n")
    for outcome in outcomes:
        packages = pins(outcome.name)
        tool = next(iter(packages))
        source = (EXAMPLES / outcome.name / "run.py").read_text(encoding="utf-8")
        parts.append(f"\n## {tool} {packages[tool]}\n\n{first_sentence(ast.get_docstring(ast.parse(source)))}.\n")
        parts.append(f"Its source and what it needs: [examples/clients/{outcome.name}](../../examples/clients/{outcome.name}/README.md).\n")
        shown = outcome.output.strip().splitlines()[-SHOWN_LINES:] or [outcome.reason]
        parts.append("\n```text\n" + "\n".join(shown) + "\n```\n")
    return "".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Do it; returns the exit code: 0 when nothing failed and what was skipped is what the list says."""
    parser = argparse.ArgumentParser(prog="make test-clients", description="Run the examples with other tools.")
    parser.add_argument("names", nargs="*", choices=[*examples(), []], help="examples to run (default: all)")
    parser.add_argument("--keep-page", action="store_true", help="do not write docs/reference/clients.md")
    options = parser.parse_args(arguments)
    names = options.names or examples()
    outcomes = sorted(run_all(names), key=lambda outcome: outcome.name)
    skipped = {outcome.name for outcome in outcomes if outcome.state == "skipped"}
    wrong = differences(skipped, listed_skips(SKIPPED.read_text(encoding="utf-8")), set(names))
    for outcome in outcomes:
        if outcome.state != "passed":
            print(f"{outcome.state}: {outcome.name}: {outcome.reason}\n{outcome.output}".rstrip())
    print(f"skipped: {', '.join(sorted(skipped)) or 'nothing'}")
    for sentence in wrong:
        print(f"not as listed: {sentence}")
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if not failed and not wrong and set(names) == set(examples()) and not options.keep_page:
        PAGE.write_text(page(outcomes, datetime.now(UTC).date().isoformat()), encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")
    print(f"clients: {len(outcomes) - failed - len(skipped)} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
