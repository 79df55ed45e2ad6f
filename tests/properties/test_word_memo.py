"""The table of known words gives what the tokenizer itself gives, for every text and every kind of tokenizer that it takes."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from luthier.chat import word_memo
from luthier.chat.word_memo import WordMemo, fits
from tests.support.mini import MINI

_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN = _LLAMA_3.replace("{1,3}", "")
_MARKS = ["<|end|>", "<|en", "[X]", "<|system|>"]
_CORPUS = ["the cat's 12 cats, don't\n\n  sleep.\tI'll see 2024 days e\u0301te\u0301 naïve 漢字 \u2028 x", "a  b   c\r\n d !!! ?! 3.14"] * 3


def _trained(splitter, *, normalizer=None, post=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if post is not None:
        tokenizer.post_processor = post
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=_MARKS, initial_alphabet=alphabet))
    return tokenizer


def _split(pattern: str):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


@cache
def tokenizers() -> dict[str, Tokenizer]:
    gpt_2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return {
        "luthier-mini": Tokenizer.from_file(str(MINI / "tokenizer.json")),
        "gpt-2": _trained(gpt_2),
        "digits": _trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt_2])),
        "llama-3": _trained(_split(_LLAMA_3), post=processors.ByteLevel(add_prefix_space=True, trim_offsets=False)),
        "qwen": _trained(_split(_QWEN), normalizer=normalizers.NFC(), post=processors.ByteLevel(add_prefix_space=False, trim_offsets=True)),
    }


KINDS = ("luthier-mini", "gpt-2", "digits", "llama-3", "qwen")
_PARTS = st.one_of(
    st.sampled_from([" ", "  ", "   ", "\n", "\r\n", "\t", "\n ", " \n", "\t ", "\x1c", "\u2028", "\u00a0", "\u3000", "\u200b", *_MARKS]),
    st.sampled_from(
        ["the", "cat", "'s", "'LL", "don't", "1", "23", "4567", "!", "?!", "...", "é", "e\u0301", "\u0301", "漢字", "😀", "\x00", "<|"]
    ),
    st.text(max_size=4),
)
TEXTS = st.lists(st.lists(_PARTS, max_size=14).map("".join), min_size=1, max_size=4)


def _memo(kind: str) -> tuple[Tokenizer, WordMemo]:
    tokenizer = tokenizers()[kind]
    plain = json.loads(tokenizer.to_str())
    assert fits(plain)
    return tokenizer, WordMemo(tokenizer, plain)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_ids_and_their_characters_are_the_tokenizers_own(kind, texts):
    tokenizer, memo = _memo(kind)
    expected = tokenizer.encode_batch(texts, add_special_tokens=False)
    for _ in range(2):  # the second time from the table
        found = memo.encodings(texts)
        assert [e.ids for e in found] == [e.ids for e in expected]
        assert [e.offsets for e in found] == [e.offsets for e in expected]
    assert memo.encodings(texts[:1])[0].ids == expected[0].ids


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_it_answers_questions_about_characters_as_the_library_does(kind, texts):
    tokenizer, memo = _memo(kind)
    expected, found = tokenizer.encode(texts[0], add_special_tokens=False), memo.encodings(texts[:1])[0]
    for at in range(len(texts[0]) + 1):
        assert found.char_to_token(at) == expected.char_to_token(at)
    for token in range(len(expected.ids)):
        assert found.token_to_chars(token) == expected.token_to_chars(token)
    assert found.token_to_chars(len(expected.ids)) is None


def test_the_table_is_bounded_and_long_pieces_are_not_kept(monkeypatch):
    monkeypatch.setattr(word_memo, "_MOST_KEPT", 10)
    tokenizer, memo = _memo("gpt-2")
    texts = [" ".join(f"w{n}" for n in range(50)), "x" * 500, "y " + "z" * 500]
    for _ in range(2):
        assert [e.ids for e in memo.encodings(texts)] == [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert len(memo._known) + len(memo._known._older) < 140
    memo.encodings(["other words"] * 2)
    assert len(memo._known) < 10
    assert max(map(len, memo._known)) < 500


def _changed(kind: str = "gpt-2", **changes):
    return {**json.loads(tokenizers()[kind].to_str()), **changes}


def _with_mark(**changes):
    plain = _changed()
    plain["added_tokens"][0].update(changes)
    return plain


@pytest.mark.parametrize(
    "plain",
    [
        _changed(normalizer={"type": "NFKC"}),
        _changed(normalizer={"type": "Sequence", "normalizers": []}),
        _changed(pre_tokenizer=None),
        _changed(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}),
        _changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
        _changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}),
        _changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": r"\s\S+"}, "behavior": "Isolated", "invert": False}),
        _changed(post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
        _changed(model={"type": "WordPiece", "vocab": {}}),
        _changed(model={"type": "BPE", "dropout": 0.1}),
        _with_mark(lstrip=True),
        _with_mark(rstrip=True),
        _with_mark(single_word=True),
        _with_mark(content="two words"),
    ],
)
def test_other_tokenizers_are_left_alone(plain):
    assert fits(_changed())
    assert not fits(plain)
