"""Redaction: placeholders that are the same for the same value, rows that stay rows, and nothing that is kept."""

import gc
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.new_file import new_file
from luthier.data.redact import CannotRedact, Redaction, Redactor, redact

LIMIT = 100_000
SECRET = "sk" + "-luthier-" + "aB3xK9mQ7pL2wE5rT8yU1iO4sD6fG0hJaB3xK9mQ"


def _redact(folder: Path, text: str | bytes, **options: Any) -> tuple[bytes, Redaction]:
    path, output = folder / "in.jsonl", folder / "out.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    done = redact(path, output, **{"max_line_bytes": LIMIT, **options})
    return output.read_bytes(), done


def _row(question: str, answer: str = "ok") -> str:
    return json.dumps({"prompt": question, "completion": answer}) + "\n"


def test_equal_values_get_equal_placeholders_in_the_whole_file(tmp_path: Path) -> None:
    rows = (
        _row("mail ann@mail.org and Bob@mail.org", "ANN@mail.org")
        + _row("nothing")
        + _row("bob@mail.org, call 415-286-4371", "(415) 286-4371")
    )
    output, done = _redact(tmp_path, rows)
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[0] == {"prompt": "mail [EMAIL_1] and [EMAIL_2]", "completion": "[EMAIL_1]"}
    assert lines[2] == {"prompt": "[EMAIL_2], call [PHONE_1]", "completion": "[PHONE_1]"}
    assert (done.num_lines, done.num_changed) == (3, 2)
    emails = done.kinds["emails"]
    assert (emails.num_values, emails.num_different, emails.num_lines, emails.lines) == (4, 2, 2, [1, 3])
    assert (done.kinds["phones"].num_values, done.kinds["phones"].num_different) == (2, 1)
    assert done.kinds["secrets"].num_values == 0


def test_every_kind_is_replaced_or_only_those_that_are_named(tmp_path: Path) -> None:
    text = f"{SECRET} ann@mail.org +33 6 12 34 56 78, 4539 1488 0343 6467, DE89370400440532013000, 81.2.69.142, 536-90-4399"
    output, _ = _redact(tmp_path, _row(text))
    assert json.loads(output)["prompt"] == "[SECRET_1] [EMAIL_1] [PHONE_1], [CARD_1], [IBAN_1], [IP_1], [ID_1]"
    (tmp_path / "out.jsonl").unlink()
    output, done = _redact(tmp_path, _row(text), kinds=["ips", "cards"])
    assert json.loads(output)["prompt"] == text.replace("4539 1488 0343 6467", "[CARD_1]").replace("81.2.69.142", "[IP_1]")
    assert set(done.kinds) == {"ips", "cards"}


def test_other_bytes_stay_as_they_are(tmp_path: Path) -> None:
    sound = b'{ "prompt":"caf\\u00e9 \xc3\xa9",\t"completion" : "x" }\r\n'
    private = b'{ "prompt":"caf\\u00e9 \xc3\xa9",\t"completion" : "ann@mail.org" }\r\n'
    output, done = _redact(tmp_path, b"\xef\xbb\xbf" + private + sound + b"\n" + private.rstrip())
    redacted = private.replace(b"ann@mail.org", b"[EMAIL_1]")
    assert output == b"\xef\xbb\xbf" + redacted + sound + b"\n" + redacted.rstrip()
    assert (done.num_lines, done.num_changed) == (4, 2)


def test_arguments_of_tool_calls_stay_json(tmp_path: Path) -> None:
    arguments = json.dumps({"to": "ann@mail.org", "card": 4539148803436467, "n": 3})
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    row = {"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    output, _ = _redact(tmp_path, json.dumps(row) + "\n")
    function = json.loads(output)["messages"][1]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"to": "[EMAIL_1]", "card": "[CARD_1]", "n": 3}
    assert function["name"] == "send"


def test_the_first_value_of_a_repeated_key_is_replaced_too(tmp_path: Path) -> None:
    output, _ = _redact(tmp_path, '{"prompt": "ann@mail.org", "prompt": "a", "completion": "b"}\n')
    assert output == b'{"prompt": "[EMAIL_1]", "prompt": "a", "completion": "b"}\n'


def test_progress_is_told_about_once_a_megabyte(tmp_path: Path) -> None:
    told: list[int] = []
    row = _row("a" * 1000)
    _redact(tmp_path, row * 2_500, max_line_bytes=10_000, on_progress=told.append)
    assert len(told) == 2
    assert all(count % len(row) == 0 for count in told)
    assert told[0] - len(row) < 1 << 20 <= told[0]


def test_new_numbers_go_on_after_those_that_the_file_has(tmp_path: Path) -> None:
    output, _ = _redact(tmp_path, _row("ann@mail.org") + _row("[EMAIL_7] and [EMAIL_x]"))
    assert json.loads(output.splitlines()[0])["prompt"] == "[EMAIL_8]"


def test_redacting_again_changes_nothing(tmp_path: Path) -> None:
    output, _ = _redact(tmp_path, _row(f"{SECRET}, ann@mail.org"))
    (tmp_path / "again").mkdir()
    again, done = _redact(tmp_path / "again", output)
    assert (again, done.num_changed) == (output, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "ann@mail.org"\n', "Line 1 is not valid JSON"),
        (_row("x") + "[1]\n", "Line 2 is not a JSON object but a list; nothing was written. Mend it first: luthier data check"),
        (_row("x") + _row("y" * LIMIT), "Line 2 is longer than 100,000 bytes"),
    ],
)
def test_a_line_that_nobody_can_read_is_not_copied(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRedact, match="nothing was written") as error:
        _redact(tmp_path, text)
    assert error.value.message.startswith(words)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with new_file(tmp_path / "out.jsonl") as file:
        file.write(b"mine")
    with pytest.raises(InvalidRequest, match="exists already"):
        _redact(tmp_path, _row("x"))
    assert (tmp_path / "out.jsonl").read_bytes() == b"mine"


@pytest.mark.parametrize("kinds", [["names"], [], ["emails", "email"]])
def test_kinds_that_are_none_are_refused(kinds: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"can be redacted"):
        Redactor(kinds)


@pytest.mark.parametrize(("library", "kind"), [("detect_secrets", "secrets"), ("phonenumbers", "phones")])
def test_a_missing_library_is_named_and_other_kinds_go_on(library: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InvalidRequest, match=r"luthier\[data\]"):
        Redactor([kind, "emails"])
    assert Redactor(["emails"]).redact("ann@mail.org") == "[EMAIL_1]"


def test_no_value_is_kept() -> None:
    redactor = Redactor()
    value = "".join(("very.rare", ".name", "@mail.org"))
    assert redactor.redact(f"to {value}") == "to [EMAIL_1]"
    seen: list[object] = [redactor]
    for thing in seen:
        for inner in gc.get_referents(thing):
            if isinstance(inner, dict | list | tuple | set | frozenset) and len(seen) < 10_000 and not any(inner is old for old in seen):
                seen.append(inner)
    kept = [inner for thing in seen for inner in gc.get_referents(thing) if isinstance(inner, str | bytes)]
    assert not any(value in inner if isinstance(inner, str) else value.encode() in inner for inner in kept)
    assert redactor.redact("VERY.RARE.NAME@mail.org") == "[EMAIL_1]"
