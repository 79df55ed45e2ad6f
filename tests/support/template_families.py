"""Chat templates of many families with small tokenizers that know their special marks, for tests of the renderer.

What it does: reads ``templates/``, trains a byte-level BPE and builds a SentencePiece-like tokenizer over the family's marks, and
gives Luthier's renderer and transformers' tokenizer over the very same files. What it does not: weights.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from luthier.chat.renderer import Renderer
from tests.support.tiny_models import mini_folder

TEMPLATES = Path(__file__).parent / "templates"

# White space around these is layout; their README says to take it out.
_LAID_OUT = ("chatml", "gemma", "llama-2", "llama-3", "mistral", "phi-3", "zephyr")
# How Llama 3 and Qwen split words (SmolLM and Granite split as GPT-2 does).
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CORPUS = (
    "system user assistant tool ipython model tools\n\nYou are a helpful assistant. The cat sat on the mat, and what did you say? "
    "Bonjour, ça va bien? Wie geht es dir? hello world hello there water Be brief. "
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n{"name": "f", "parameters": {}}\n think\n\n Answer: 12345 '
)
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>")
_SPM = ("<unk>", "<s>", "</s>")
_MISTRAL_V3 = (*_SPM, "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
_PHI3 = (*_SPM, "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_PHI4 = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>")
_GRANITE = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A template, its tokenizer's marks, and what may be asked of it."""

    name: str
    marks: tuple[str, ...]
    eos: str
    bos: str | None = None
    plain_marks: tuple[str, ...] = ()
    """Added tokens that are not special, such as ``<tool_call>``."""
    pieces: bool = False
    """SentencePiece-like; else byte-level."""
    right_strip: bool = False
    """The marks swallow white space after them, as Phi 3's do."""
    tools: bool = False
    parallel_calls: bool = True
    text_with_calls: bool = True
    """Content beside tool calls is written."""
    trims: bool = False
    """Contents lose white space at their ends."""
    extends: bool = True
    """A longer talk begins with the shorter one. False: the template rewrites earlier turns."""
    opens_truly: bool = True
    """A finished answer begins with the generation prompt."""
    straddles: bool = False
    """A token may lie across the border between the generation prompt and the answer: a line end before one that begins with one."""


FAMILIES = (
    Family(name="luthier-mini", marks=(), eos="<|end|>", tools=True),
    Family(name="chatml", marks=_CHATML, eos="<|im_end|>", bos="<|endoftext|>", trims=True),
    Family(
        name="gemma",
        marks=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        bos="<bos>",
        pieces=True,
        trims=True,
    ),
    Family(name="granite-3", marks=_GRANITE, eos="<|end_of_text|>", tools=True),
    Family(name="hermes", straddles=True, marks=_CHATML, eos="<|im_end|>", plain_marks=("<tool_call>", "</tool_call>"), tools=True),
    Family(name="llama-2", marks=_SPM, eos="</s>", bos="<s>", pieces=True, trims=True),
    Family(name="llama-3", marks=_LLAMA3, eos="<|eot_id|>", bos="<|begin_of_text|>", trims=True),
    Family(
        name="llama-3.1",
        marks=_LLAMA3,
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
        trims=True,
        tools=True,
        parallel_calls=False,
        text_with_calls=False,
    ),
    Family(name="marked-chatml", straddles=True, marks=_CHATML, eos="<|im_end|>"),
    Family(name="mistral", marks=_SPM, eos="</s>", bos="<s>", pieces=True, trims=True),
    Family(
        name="mistral-nemo", marks=_MISTRAL_V3, eos="</s>", bos="<s>", tools=True, text_with_calls=False, extends=False, opens_truly=False
    ),
    Family(
        name="mistral-v3",
        marks=_MISTRAL_V3,
        eos="</s>",
        bos="<s>",
        pieces=True,
        tools=True,
        text_with_calls=False,
        extends=False,
        opens_truly=False,
    ),
    Family(
        name="opened-thought",
        straddles=True,
        marks=_CHATML,
        eos="<|im_end|>",
        bos="<|endoftext|>",
        plain_marks=("<think>", "</think>"),
        extends=False,
        opens_truly=False,
    ),
    Family(name="phi-3", marks=_PHI3, eos="<|end|>", bos="<s>", pieces=True, right_strip=True, trims=True),
    Family(name="phi-4-mini", marks=_PHI4, eos="<|end|>", tools=True),
    Family(name="plain-words", straddles=True, marks=("<|endoftext|>",), eos="<|endoftext|>"),
    Family(name="qwen-2.5", straddles=True, marks=_CHATML, eos="<|im_end|>", plain_marks=("<tool_call>", "</tool_call>"), tools=True),
    Family(
        name="qwen-3",
        straddles=True,
        marks=_CHATML,
        eos="<|im_end|>",
        plain_marks=("<tool_call>", "</tool_call>", "<think>", "</think>"),
        tools=True,
        extends=False,
    ),
    Family(name="smollm2", straddles=True, marks=_CHATML, eos="<|im_end|>", bos="<|endoftext|>"),
    Family(
        name="smollm3",
        straddles=True,
        marks=_CHATML,
        eos="<|im_end|>",
        plain_marks=("<tool_call>", "</tool_call>", "<think>", "</think>"),
        tools=True,
    ),
    Family(name="zephyr", marks=(*_SPM, "<|endoftext|>"), eos="</s>", bos="<s>", pieces=True, trims=True),
)
BY_NAME = {family.name: family for family in FAMILIES}


@functools.cache
def folder_of(name: str) -> Path:
    """A model folder without weights: tokenizer and template."""
    family = BY_NAME[name]
    if name == "luthier-mini":
        return mini_folder()
    folder = Path(mkdtemp(prefix=f"luthier-{name}-"))
    fast = _pieces(family) if family.pieces else _bytes(family)
    fast.add_special_tokens([AddedToken(m, special=True, normalized=False, rstrip=family.right_strip) for m in family.marks])
    fast.add_tokens([AddedToken(m, normalized=False) for m in family.plain_marks])
    fast.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": family.eos, "clean_up_tokenization_spaces": False}
    if family.bos is not None:
        config["bos_token"] = family.bos
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    if name in _LAID_OUT:
        template = template.replace("    ", "").replace("\n", "")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@functools.cache
def renderer_of(name: str) -> Renderer:
    """Luthier's renderer of a family."""
    return Renderer.load(folder_of(name))


@functools.cache
def transformers_of(name: str) -> Any:
    """transformers' tokenizer over the same files."""
    from transformers import PreTrainedTokenizerFast

    folder = folder_of(name)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    marks = {key: value for key, value in config.items() if key in ("bos_token", "eos_token", "pad_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **marks)
    path = folder / "chat_template.jinja"
    tokenizer.chat_template = path.read_text(encoding="utf-8") if path.is_file() else config["chat_template"]
    return tokenizer


def _bytes(family: Family) -> FastTokenizer:
    fast = FastTokenizer(models.BPE())
    fast.normalizer = normalizers.NFC() if family.name.startswith("qwen") else None
    as_gpt2 = family.name.startswith(("smollm", "granite", "plain"))
    fast.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if as_gpt2
        else pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    )
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator([_CORPUS], trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    return fast


def _pieces(family: Family) -> FastTokenizer:
    vocabulary = {mark: i for i, mark in enumerate(family.marks)}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for character in dict.fromkeys("▁" + _CORPUS.replace(" ", "▁")):
        vocabulary.setdefault(character, len(vocabulary))
    for word in dict.fromkeys(_CORPUS.split()):
        whole = "▁"
        for character in word:
            if whole + character not in vocabulary:
                vocabulary[whole + character] = len(vocabulary)
                merges.append((whole, character))
            whole += character
    fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if family.name in ("llama-2", "gemma"):
        prepend = [] if family.name == "gemma" else [normalizers.Prepend("▁")]
        fast.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    else:
        fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    strip = [] if family.name == "gemma" else [decoders.Strip(" ", 1, 0)]
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return fast
