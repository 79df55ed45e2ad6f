"""``luthier doctor``: is the server there, is the key right, is it ready, and what stands in its way.

What it does: looks, and says what to do about each finding; ends with the code of the worst one. What it does not: mend
anything. The findings are made by ``cli/checkup.py``.
"""

import sys

import click
from rich.console import Console
from rich.text import Text

from luthier.cli.checkup import Finding, examine
from luthier.cli.exit_codes import ExitCode
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import show_json
from luthier.cli.printing import printable_output
from luthier.cli.render.text import literal

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "error": ("✗", "red")}
# From the worst on: with wrong settings no server can be looked for, without a server nothing is told, without a key nothing used.
_WORST = (ExitCode.USAGE, ExitCode.UNREACHABLE, ExitCode.AUTH, ExitCode.FAILED, ExitCode.DONE)


@click.command(epilog="Example: luthier doctor --data-dir luthier-data")
@with_form
@with_place
def doctor(place: Place, form: Form) -> None:
    """Check server, key, readiness, versions, disk and data directory. With --quiet: the names of the checks that failed."""
    printable_output()
    findings = examine(place)
    if form.as_json:
        show_json([{"check": f.check, "level": f.level, "message": f.message, "next": f.following} for f in findings])
    elif form.quiet:
        for finding in findings:
            if finding.level == "error":
                click.echo(finding.check)
    else:
        _show(findings)
    sys.exit(worst(findings))


def worst(findings: list[Finding]) -> ExitCode:
    """The code of the worst finding."""
    codes = {f.code for f in findings}
    return next(code for code in _WORST if code in codes or code is ExitCode.DONE)


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    width = max(len(f.check) for f in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.level]
        line = Text(f"{mark} ", style=colour) + Text(f"{finding.check:<{width}}  ", style="dim") + literal(finding.message)
        console.print(line, soft_wrap=True)
        if finding.following:
            console.print(Text(" " * (width + 4) + "try: ", style="dim") + literal(finding.following), soft_wrap=True)
