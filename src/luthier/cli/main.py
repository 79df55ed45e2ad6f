"""The ``luthier`` command: lists the commands, loads the one that is asked for, and ends with its exit code.

What it does: every expected error becomes one line on standard error, with the next command to try, and a code of
``cli/exit_codes.py``. What it does not: any work.
"""

import sys
from collections.abc import Sequence
from typing import Any

import click

from luthier import __version__
from luthier.cli.exit_codes import ExitCode, exit_code_of, next_command
from luthier.cli.lazy_group import LazyGroup
from luthier.core.errors import LuthierError

# Command name -> (module, attribute, one line of help). Modules are imported only when their command runs.
COMMANDS = {
    "serve": ("luthier.cli.serve", "serve", "Start the API, the worker and the engine host on this machine."),
    "doctor": ("luthier.cli.doctor", "doctor", "Check server, key, versions, disk and data directory."),
    "files": ("luthier.cli.files", "files", "Upload, list, read and delete files."),
    "data": ("luthier.cli.data", "data", "Check, import, repair and split training files before any job reads them."),
    "jobs": ("luthier.cli.jobs", "jobs", "Forecast, create, watch, pause, resume and cancel fine-tuning jobs."),
    "sweep": ("luthier.cli.sweep", "sweep", "Train one file with many settings, and see which is best on held-out rows."),
    "trace": ("luthier.cli.trace", "trace", "Show the pipeline trace of a job."),
    "models": ("luthier.cli.models", "models", "List, show and delete served models, add a base model, or give models other names."),
    "aliases": ("luthier.cli.aliases", "aliases", "Give served models other names, move them, and go back."),
    "batches": ("luthier.cli.batches", "batches", "Answer a file of requests in the background."),
    "keys": ("luthier.cli.keys", "keys", "Create, list and revoke API keys."),
    "projects": ("luthier.cli.keys", "projects", "Create and list projects."),
    "chat": ("luthier.cli.chat", "chat", "Ask a model: one prompt, a pipe, or a conversation."),
    "demo": ("luthier.cli.demo", "demo", "Fine-tune the embedded model on the example, and see it get better."),
    "completion": ("luthier.cli.completion", "completion", "Print the shell completion script."),
}


class _Luthier(LazyGroup):
    """The whole command; its own part is what an error comes to."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run. Standing alone, the process ends with the command's exit code; else errors are the caller's, as click has it."""
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(given, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra)
        sys.exit(self._exit_code(given, prog_name or "luthier", complete_var, extra))

    def _exit_code(self, args: list[str], prog_name: str, complete_var: str | None, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return ExitCode.USAGE
        except click.ClickException as error:
            _tell(error.format_message(), f"{self.full_name(args)} --help")
            return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILED
        except click.Abort:
            _tell("Stopped.", None)
            return ExitCode.DETACHED
        except LuthierError as error:
            return self._end(error, args)
        except Exception as error:  # the process's edge: what the official client raises is expected, the rest is a fault of ours
            client = sys.modules.get("openai")
            if client is None or not isinstance(error, client.APIError):
                raise
            from luthier.cli.printing import sentence_of

            return self._end(sentence_of(error), args)
        return code if isinstance(code, int) else ExitCode.DONE

    def _end(self, error: LuthierError, args: list[str]) -> int:
        _tell(error.message, next_command(error, self.full_name(args)))
        return exit_code_of(error)

    def full_name(self, args: Sequence[str]) -> str:
        """The full name of the command that ``args`` call, as far as there is one: for the line that an error ends with."""
        names = ["luthier"]
        command: click.Command | None = self
        for argument in args:
            command = command.get_command(click.Context(command), argument) if isinstance(command, click.Group) else None
            if command is None:
                break
            names.append(argument)
        return " ".join(names)


def _tell(message: str, following: str | None) -> None:
    from luthier.cli.render.text import plain  # a server's words, shown as text

    lines = "\n".join(plain(line) for line in message.splitlines())
    click.echo(f"luthier: {lines}" + (f" Try: {following}" if following else ""), err=True)


@click.group(
    cls=_Luthier,
    table=COMMANDS,
    epilog="Example: luthier jobs create --training-file train.jsonl --wait",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="luthier")
def cli() -> None:
    """The OpenAI fine-tuning API on your own machines."""


if __name__ == "__main__":
    cli()
