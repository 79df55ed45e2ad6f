import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, normalizers

from luthier.chat.tokenizer import Tokenizer
from luthier.core.errors import InvalidRequest
from tests.support.tiny_models import mini_folder

TEXT = "Bonjour, ça va ? 🙂 naïve\n\n  x = 1<|end|>ok"


@pytest.fixture(scope="module")
def mini() -> Tokenizer:
    return Tokenizer.load(mini_folder())


def test_a_text_survives_and_marks_are_parsed(mini: Tokenizer) -> None:
    ids = mini.encode(TEXT)
    assert mini.decode(ids, skip_special=False) == TEXT
    assert mini.decode(ids) == TEXT.replace("<|end|>", "")
    assert ids.count(5) == 1
    assert mini.encode("") == []


def test_named_marks(mini: Tokenizer) -> None:
    assert (mini.bos_id, mini.eos_id, mini.vocab_size) == (0, 5, 8192)
    assert mini.special_ids == frozenset(range(32))
    assert mini.opening_ids == ()
    assert mini.marks() == {"bos_token": "<|endoftext|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}


def test_the_bytes_of_tokens_joined_are_the_bytes_of_the_text(mini: Tokenizer) -> None:
    ids = mini.encode(TEXT)
    assert b"".join(mini.token_bytes(i) for i in ids) == TEXT.encode()
    assert mini.token_text(5) == "<|end|>"
    assert mini.token_bytes(mini.vocab_size + 7) == b""
    smile = mini.encode("🙂")
    assert len(smile) > 1
    assert mini.token_text(smile[0]) == "\ufffd"


def test_offsets_cut_the_text(mini: Tokenizer) -> None:
    text = "Hello world, how are you?"
    ids, offsets = mini.encode_with_offsets(text)
    assert ids == mini.encode(text)
    assert "".join(text[s:e] for s, e in offsets) == text


def test_sentencepiece_style_tokens_and_bos(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "H": 4, "i": 5, "▁H": 6, **{f"<0x{b:02X}>": 7 + b for b in range(256)}}
    fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "H")], byte_fallback=True, unk_token="<unk>"))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fast.add_special_tokens(["<s>", "</s>"])
    from tokenizers import processors

    fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.opening_ids == (1,)
    assert tokenizer.encode("Hi") == [6, 5]
    assert tokenizer.token_bytes(6) == b" H"
    assert b"".join(tokenizer.token_bytes(i) for i in tokenizer.encode("Hié")) == " Hié".encode()
    assert tokenizer.drops_first_space
    assert tokenizer.decode([6, 5]) == "Hi"


def test_missing_or_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((mini_folder() / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(InvalidRequest, match="JSON object"):
        Tokenizer.load(tmp_path)


def test_jobs_on_one_base_share_what_the_library_read_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    plain = json.loads((mini_folder() / "tokenizer.json").read_text())
    path.write_text(json.dumps(plain))
    first, second = Tokenizer.load(tmp_path), Tokenizer.load(tmp_path)
    assert first._fast is second._fast
    last = max(plain["added_tokens"], key=lambda entry: entry["id"])
    last["content"] = "<|renamed here|>"
    path.write_text(json.dumps(plain))
    assert Tokenizer.load(tmp_path).id_of("<|renamed here|>") is not None
    assert first.id_of("<|renamed here|>") is None
