import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.chat.stream import StreamDecoder
from luthier.chat.tokenizer import Tokenizer
from tests.support.tiny_models import mini_folder

MINI = Tokenizer.load(mini_folder())


def _pieces(ids: list[int], stop: tuple[str, ...] = (), skip_special: bool = True) -> tuple[list[str], StreamDecoder]:
    decoder = StreamDecoder(MINI, stop, skip_special=skip_special)
    return [*(decoder.push(i) for i in ids), decoder.finish()], decoder


def test_a_character_of_several_tokens_comes_whole() -> None:
    ids = MINI.encode("a🙂b")
    pieces, _ = _pieces(ids)
    assert "".join(pieces) == "a🙂b"
    assert len(ids) > 3
    assert all("\ufffd" not in p for p in pieces)


def test_an_incomplete_character_is_shown_at_the_end() -> None:
    ids = MINI.encode("🙂")[:-1]
    pieces, _ = _pieces(ids)
    assert pieces[:-1] == [""] * len(ids)
    assert pieces[-1] == "\ufffd"


def test_a_stop_string_across_tokens_is_never_shown() -> None:
    ids = MINI.encode("one two three four")
    pieces, decoder = _pieces(ids, ("o thr",))
    assert "".join(pieces) == "one tw"
    assert decoder.stopped
    assert decoder.push(ids[0]) == ""


def test_text_that_only_begins_like_a_stop_string_is_held_then_shown() -> None:
    decoder = StreamDecoder(MINI, ("\n\nEND",))
    shown = "".join(decoder.push(i) for i in MINI.encode("x\n\n"))
    assert shown == "x"
    rest = "".join(decoder.push(i) for i in MINI.encode("EN"))
    assert rest == ""
    assert decoder.finish() == "\n\nEN"
    assert not decoder.stopped


def test_the_first_of_several_stop_strings_wins_and_empty_ones_do_not_count() -> None:
    pieces, decoder = _pieces(MINI.encode("abc def ghi"), ("", "ghi", "def"))
    assert "".join(pieces) == "abc "
    assert decoder.stopped


def test_special_marks_are_left_out_unless_asked_for() -> None:
    ids = MINI.encode("hi<|end|>there")
    assert "".join(_pieces(ids)[0]) == "hithere"
    assert "".join(_pieces(ids, skip_special=False)[0]) == "hi<|end|>there"


def test_a_leading_space_is_kept() -> None:
    assert "".join(_pieces(MINI.encode(" hi"))[0]) == " hi"


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40), stop=st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_joined_are_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    text = text.encode("utf-8", "replace").decode()
    if "<|" in text:
        return
    pieces, decoder = _pieces(MINI.encode(text), tuple(stop))
    cuts = [at for s in stop if (at := text.find(s)) >= 0]
    assert "".join(pieces) == (text[: min(cuts)] if cuts else text)
    assert decoder.stopped == bool(cuts)


@pytest.mark.parametrize("token", [31, 8191, 999999])
def test_any_token_id_is_taken(token: int) -> None:
    assert isinstance(StreamDecoder(MINI).push(token), str)
