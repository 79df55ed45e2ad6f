"""``luthier chat MODEL [PROMPT]``: one answer to a prompt or a pipe, else a conversation, streamed.

What it does: prints the answer's text as it comes; a terminal gets it without anything that it would obey. What it does not:
keep a conversation beyond the process.
"""

import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import click

from luthier.cli.client import post
from luthier.cli.options import Place, with_place
from luthier.cli.output import show_json
from luthier.cli.printing import client_errors, printable_output
from luthier.core.errors import LuthierError

if TYPE_CHECKING:
    import openai

Messages = list[dict[str, str]]
_END = ("/exit", "/quit")
_UNSAFE = {"Cc", "Cf", "Cs"}


@click.command(epilog="Example: luthier chat luthier-mini 'Translate to French: Good morning'")
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--system", default=None, help="A system message that stands before the conversation.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=None, help="0 always takes the likeliest token.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=None, help="Longest answer, tokens.")
@click.option("--seed", type=int, default=None, help="Makes sampling repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One answer as the API's own object, not streamed.")
@with_place
def chat(model: str, prompt: str | None, system: str | None, as_json: bool, place: Place, **sampling: Any) -> None:
    """Ask MODEL. Without PROMPT a pipe is read as the prompt; on a terminal a conversation begins, ended with Ctrl-D."""
    printable_output()
    messages: Messages = [] if system is None else [{"role": "system", "content": system}]
    options = {name: value for name, value in sampling.items() if value is not None}
    if prompt is None and _at_terminal():
        if as_json:
            raise click.UsageError("--json needs a prompt, as an argument or from a pipe.")
        _converse(place.client(), model, messages, options)
        return
    text = sys.stdin.read() if prompt is None else prompt
    if not text.strip():
        raise click.UsageError("The prompt is empty.")
    messages.append({"role": "user", "content": text.rstrip("\n") if prompt is None else text})
    client = place.client()
    if as_json:
        show_json(post(client, "/chat/completions", {"model": model, "messages": messages, **options}))
    else:
        _answer(client, model, messages, options)


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _converse(client: "openai.OpenAI", model: str, messages: Messages, options: dict[str, Any]) -> None:
    """Ask, answer, remember, until Ctrl-D or ``/exit``; an answer that fails or is stopped is taken back."""
    click.echo(f"{model}. End with Ctrl-D or /exit; Ctrl-C stops an answer.", err=True)
    while True:
        try:
            text = click.prompt(">", prompt_suffix=" ", err=True)
        except click.Abort:
            click.echo(err=True)
            return
        if text.strip() in _END:
            return
        messages.append({"role": "user", "content": text})
        try:
            with client_errors():
                answer = _answer(client, model, messages, options)
        except KeyboardInterrupt:
            click.echo("\n(stopped)", err=True)
            messages.pop()
        except LuthierError as error:
            if len(messages) <= 2 and not any(m["role"] == "assistant" for m in messages):
                raise  # nothing was answered yet: the model or the key is wrong, and asking again would not help
            click.echo(f"luthier: {error.message}", err=True)
            messages.pop()
        else:
            messages.append({"role": "assistant", "content": answer})


def _answer(client: "openai.OpenAI", model: str, messages: Messages, options: dict[str, Any]) -> str:
    """Print one answer while it comes; returns its whole text."""
    asked: Any = messages
    pieces: list[str] = []
    with client.chat.completions.create(model=model, messages=asked, stream=True, **options) as stream:
        for chunk in stream:
            piece = (chunk.choices[0].delta.content if chunk.choices else None) or ""
            pieces.append(piece)
            _write(piece)
    if not "".join(pieces).endswith("\n"):
        _write("\n")
    return "".join(pieces)


def _write(text: str) -> None:
    """To a pipe as it is; to a terminal without control characters, which a model must not send it."""
    if sys.stdout.isatty():
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _UNSAFE)
    sys.stdout.write(text)
    sys.stdout.flush()
