"""``luthier completion SHELL``: the script that completes commands and options in a shell.

What it does: prints what click makes. What it does not: install it.
"""

import click
from click.shell_completion import get_completion_class


@click.command(epilog='Example: eval "$(luthier completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL; add it to the shell's start-up file."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "luthier", "_LUTHIER_COMPLETE").source())
