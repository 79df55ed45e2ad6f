"""The ``luthier`` command. What it does: lists the commands and loads the one that is asked for. What it does not: any work."""

import importlib
import sys

import click

from luthier import __version__
from luthier.core.errors import LuthierError

# Command name -> (module, attribute, one line of help). Modules are imported only when their command runs.
COMMANDS = {
    "serve": ("luthier.cli.serve", "serve", "Start the API, the worker and the engine host on this machine."),
    "trace": ("luthier.cli.trace", "trace", "Show the pipeline trace of a job."),
    "models": ("luthier.cli.models", "models", "List the served models, add a base model from a local folder, or give models other names."),
    "demo": ("luthier.cli.demo", "demo", "Fine-tune the embedded model on the example, and see it get better."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="luthier")
def cli() -> None:
    """The OpenAI fine-tuning API on your own machines."""


def main() -> None:
    """Console entry point: expected errors become one sentence and exit code 1."""
    try:
        cli()
    except LuthierError as error:
        click.echo(f"luthier: {error.message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
