"""``luthier chat``: a prompt, a pipe, a conversation."""

import io
import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from luthier.cli import chat as chat_module
from luthier.core.engine_messages import Failed, Generate, Started, TokenChunk
from tests.support.api_server import ApiServer
from tests.support.command_line import one_line
from tests.support.fake_engine import BASE, saying
from tests.unit.cli.conftest import Run


def asked(server: ApiServer) -> list[list[tuple[str, Any]]]:
    return [[(m["role"], m["content"]) for m in g.messages or ()] for g in server.engine.generations]


def test_a_prompt_gets_one_streamed_answer(run: Run, server: ApiServer) -> None:
    result = run("chat", BASE, "Hi", "--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--seed", "3")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello world!\n", "")
    assert asked(server) == [[("system", "Be brief."), ("user", "Hi")]]
    (generation,) = server.engine.generations
    assert (generation.sampling.temperature, generation.sampling.max_tokens, generation.sampling.seed) == (0, 9, 3)


def test_a_pipe_is_the_prompt(run: Run, server: ApiServer) -> None:
    result = run("chat", BASE, stdin="two\nlines\n")
    assert (result.exit_code, result.stdout) == (0, "Hello world!\n")
    assert asked(server) == [[("user", "two\nlines")]]


def test_json_is_the_apis_object(run: Run) -> None:
    answer = json.loads(run("chat", BASE, "Hi", "--json").stdout)
    assert (answer["object"], answer["choices"][0]["message"]["content"]) == ("chat.completion", "Hello world!")


def test_a_pipe_gets_the_answer_as_it_is_and_a_terminal_without_control(
    monkeypatch: pytest.MonkeyPatch, run: Run, server: ApiServer
) -> None:
    server.engine.generate = saying("é\x1b[2J", "\u202ex\ty")
    assert run("chat", BASE, "Hi").stdout == "é\x1b[2J\u202ex\ty\n"
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    chat_module._write("é\x1b[2J\u202ex\ty\n")
    assert terminal.getvalue() == "é[2Jx\ty\n"


def test_a_conversation_remembers(run: Run, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    result = run("chat", BASE, stdin="Hi\nAnd then?\n/exit\nnever\n")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("Hello world!\n") == 2
    first = [("user", "Hi")]
    assert asked(server) == [first, [*first, ("assistant", "Hello world!"), ("user", "And then?")]]
    assert "Ctrl-D" in result.stderr


def test_the_end_of_input_ends_a_conversation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    assert run("chat", BASE, stdin="Hi\n").exit_code == 0


def test_an_answer_that_breaks_is_taken_back_and_the_conversation_goes_on(
    run: Run, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_breaks(request: Generate) -> Iterable[Any]:
        if len(server.engine.generations) == 2:
            return [Started(prompt_tokens=7), TokenChunk(text="Hal", tokens=()), Failed(kind="Unavailable", message="The engine is gone.")]
        return saying("Yes")(request)

    monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    server.engine.generate = second_breaks
    result = run("chat", BASE, stdin="one\ntwo\nthree\n")
    assert result.exit_code == 0, result.stderr
    assert "luthier: The engine is gone." in result.stderr
    assert asked(server)[-1] == [("user", "one"), ("assistant", "Yes"), ("user", "three")]


def test_ctrl_c_stops_an_answer_and_not_the_conversation(run: Run, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = chat_module._write, 0

    def interrupted(text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        write(text)

    monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    monkeypatch.setattr(chat_module, "_write", interrupted)
    result = run("chat", BASE, stdin="one\ntwo\n")
    assert result.exit_code == 0
    assert "(stopped)" in result.stderr
    assert asked(server)[-1] == [("user", "two")]


@pytest.mark.parametrize("conversation", [True, False])
def test_an_unknown_model_is_not_found(run: Run, monkeypatch: pytest.MonkeyPatch, conversation: bool) -> None:
    if conversation:
        monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    result = run("chat", "nothing-here", *([] if conversation else ["Hi"]), stdin="Hi\n")
    assert result.exit_code == 4
    assert result.stderr.splitlines()[-1].endswith("Try: luthier models list")
    assert result.stdout == ""


def test_an_empty_prompt_and_json_without_one_are_usage_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("chat", BASE, stdin=" \n")
    assert result.exit_code == 2
    one_line(result)
    monkeypatch.setattr(chat_module, "_at_terminal", lambda: True)
    assert run("chat", BASE, "--json").exit_code == 2
