"""Section ``base``: what the untuned model knows. Translation in a neutral frame, held-out text, held-out pairs.

What it does: chrF and exact answers of greedy decoding, bits per character, loss per token; all on rows that are never in
pre-training. What it does not: ask in the chat form, which the base has not met. Called by ``pretraining/evaluate.py``.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sacrebleu.metrics.chrf import CHRF

from luthier.chat.renderer import Renderer
from luthier.core.tokens import Rendered
from luthier.deployment.scoring import Entry, score
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from pretraining import corpus
from pretraining.evaluation.generate import greedy_answers
from pretraining.evaluation.options import Options, missing_files
from pretraining.evaluation.results import Section
from pretraining.evaluation.statistics import is_right
from pretraining.evaluation.tables import percent, show
from pretraining.evaluation.tune import num_threads
from pretraining.frames import EVALUATION_FRAME

NAME = "base"
PAIRS_FILE = "enfr_pairs.tsv.xz"
_MOST_WORDS = 8
_MAX_ANSWER_TOKENS = 40
_CHARACTERS = 60_000
_CHARACTERS_OF_DOCUMENT = 2_000
"""Of one document: the sample then has many books, and not the first half of one."""
_CHARACTERS_OF_LIMIT = 100
"""Under ``--limit N`` text is cut to N times so many characters."""
_WINDOW = 256
_SAMPLE_SEED = 20261124


def missing(options: Options) -> list[str]:
    """What keeps this section from running, as sentences."""
    texts = [f"{name}{end}" for name in corpus.LANGUAGES.values() for end in (".txt.xz", ".index.tsv")]
    return missing_files(options.corpus, [PAIRS_FILE, *texts], section=NAME, option="--corpus")


def heldout_pairs(folder: Path) -> tuple[list[corpus.Pair], dict[str, list[str]]]:
    """The canonical held-out pairs in the file's order, and all translations of each English sentence, the canonical one first."""
    rows = [pair for pair in corpus.pairs(folder) if pair.split == "heldout_dev"]
    variants: dict[str, list[str]] = {}
    for pair in sorted(rows, key=lambda pair: pair.rank):
        variants.setdefault(pair.en, []).append(pair.fr)
    return [pair for pair in rows if pair.rank == 1], variants


def run(options: Options, section: Section) -> None:
    """Measure and print. The corpus must be there (``missing``)."""
    assert options.corpus is not None
    folder = options.corpus
    model, renderer = load_model(options.model), Renderer.load(options.model)
    torch.set_num_threads(num_threads(model))
    pairs, variants = heldout_pairs(folder)
    short = options.cut([pair for pair in pairs if len(pair.en.split()) <= _MOST_WORDS])
    translation = section.measured("translation", lambda: _translate(model, renderer, short, variants))
    show(
        f"Translation of held-out sentences of at most {_MOST_WORDS} words, untuned, frame {EVALUATION_FRAME!r}, greedy (no seed)",
        ["n", "chrF2", "exactly right"],
        [[translation["n"], f"{translation['chrf']:.1f}", f"{translation['right']} ({percent(translation['right'] / translation['n'])})"]],
    )
    limit = _CHARACTERS if options.limit is None else min(_CHARACTERS, options.limit * _CHARACTERS_OF_LIMIT)
    rows = []
    for language in corpus.LANGUAGES:
        bits = section.measured(f"text {language}", lambda language=language: _bits(model, renderer, folder, language, limit))
        rows.append(
            [language, bits["n_documents"], f"{bits['n_characters']:,}", f"{bits['n_tokens']:,}", f"{bits['bits_per_character']:.3f}"]
        )
    show(f"Held-out text in windows of {_WINDOW} tokens (no seed)", ["language", "documents", "characters", "tokens", "bits/char"], rows)
    loss = section.measured("pairs", lambda: _pair_loss(model, renderer, options.cut(pairs)))
    show(
        "Held-out pairs in the same frame (no seed)",
        ["tokens scored", "pairs", "n tokens", "loss per token (nats)", "token accuracy"],
        [
            [name, loss["n"], loss[key]["n_tokens"], f"{loss[key]['loss']:.3f}", percent(loss[key]["accuracy"])]
            for name, key in (("French, given the English", "french"), ("whole row but its first token", "row"))
        ],
    )


def _translate(model: LanguageModel, renderer: Renderer, pairs: Sequence[corpus.Pair], variants: dict[str, list[str]]) -> dict[str, Any]:
    prompts = [renderer.raw_prompt(EVALUATION_FRAME.format(en=pair.en)).ids_T.tolist() for pair in pairs]
    answers = [text.strip() for text in greedy_answers(model, renderer, prompts, max_tokens=_MAX_ANSWER_TOKENS, stop=("\n",))]
    accepted = [variants[pair.en] for pair in pairs]
    most = max(len(one) for one in accepted)
    # sacrebleu wants streams of references, the n-th of every sentence together; None where a sentence has no n-th one.
    streams = [[one[at] if at < len(one) else None for one in accepted] for at in range(most)]
    chrf = CHRF()
    result = chrf.corpus_score(answers, streams)  # type: ignore[arg-type]  # its documentation allows None, its annotation does not
    return {
        "n": len(pairs),
        "chrf": round(result.score, 2),
        "signature": str(chrf.get_signature()),
        "right": sum(is_right(answer, one) for answer, one in zip(answers, accepted, strict=True)),
        "mean_references": round(sum(map(len, accepted)) / len(accepted), 2),
    }


def _bits(model: LanguageModel, renderer: Renderer, folder: Path, language: str, limit: int) -> dict[str, Any]:
    texts = sample_text(corpus.heldout_text(folder, language), limit)
    size = min(_WINDOW, model.facts.max_length - 1)
    windows: list[Rendered] = []
    characters = 0
    for text in texts:
        ids, offsets = renderer.tokenizer.encode_with_offsets(text)
        windows += windows_of(ids, size)
        # The first token of a text is never predicted in pre-training, so it is read, not scored, and its characters do not count.
        characters += len(text) - offsets[0][1]
    loss, num_tokens, _ = _sums(_scored(model, windows))
    return {
        "n_documents": len(texts),
        "n_characters": characters,
        "n_tokens": num_tokens,
        "bits_per_character": round(loss / math.log(2) / characters, 4),
    }


def sample_text(documents: Sequence[str], limit: int) -> list[str]:
    """Beginnings of documents, at most 2,000 characters of each, in an order drawn once, together ``limit`` characters."""
    order = list(documents)
    random.Random(_SAMPLE_SEED).shuffle(order)
    texts, room = [], limit
    for document in order:
        text = document[: min(_CHARACTERS_OF_DOCUMENT, room)]
        if not text:
            break
        texts.append(text)
        room -= len(text)
    return texts


def windows_of(ids: Sequence[int], size: int) -> list[Rendered]:
    """Windows of ``size`` scored tokens, each after the one token before it: every token but the first one is scored once."""
    return [_rendered(ids[at : at + size + 1], 1) for at in range(0, len(ids) - 1, size)]


def _pair_loss(model: LanguageModel, renderer: Renderer, pairs: Sequence[corpus.Pair]) -> dict[str, Any]:
    french, whole = [], []
    for pair in pairs:
        asked = renderer.raw_prompt(EVALUATION_FRAME.format(en=pair.en)).ids_T.tolist()
        # A space begins a word's token, so the answer's tokens never join with the colon before them.
        ids = [*asked, *renderer.tokenizer.encode(f" {pair.fr}")]
        french.append(_rendered(ids, len(asked)))
        whole.append(_rendered(ids, 1))
    result: dict[str, Any] = {"n": len(pairs)}
    for name, rows in (("french", french), ("row", whole)):
        loss, num_tokens, num_correct = _sums(_scored(model, rows))
        result[name] = {"n_tokens": num_tokens, "loss": round(loss / num_tokens, 4), "accuracy": round(num_correct / num_tokens, 4)}
    return result


def _rendered(ids: Sequence[int], context: int) -> Rendered:
    """Token ids of which the first ``context`` are read and the others scored."""
    weights_T = np.ones(len(ids), dtype=np.float32)
    weights_T[:context] = 0.0
    return Rendered(ids_T=np.asarray(ids, dtype=np.int64), weights_T=weights_T)


def _scored(model: LanguageModel, rows: Sequence[Rendered]) -> tuple[Entry, ...]:
    """The product's scoring of given tokens, run to its end."""
    *_, entries = score(model, None, rows, model.facts.max_length)
    assert entries is not None
    return entries


def _sums(entries: Sequence[Entry]) -> tuple[float, int, int]:
    """Loss in nats, tokens, tokens that greedy decoding would have got right."""
    return sum(e.loss_sum for e in entries), sum(e.num_tokens for e in entries), sum(e.num_correct for e in entries)
