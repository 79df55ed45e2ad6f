import pytest

from luthier.engine.prediction import shown


class Names:
    """A vocabulary of two: a word, and the first two bytes of a dash."""

    def token_text(self, token_id: int, /) -> str:
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_bytes(self, token_id: int, /) -> bytes:
        return (b" jour", b"\xe2\x80")[token_id]


@pytest.mark.parametrize(("token", "text"), [(0, " jour"), (1, "<0xE2 0x80>")])
def test_a_token_that_is_no_text_is_shown_by_its_bytes(token: int, text: str) -> None:
    assert shown(Names(), token) == text
