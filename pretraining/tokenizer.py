"""Step 1: the tokenizer, a byte-level BPE over the corpus with marks for chat and tools (Sennrich and others, 2016; bytes as in GPT-2).

Digits stand alone, so that numbers are read the same everywhere. The vocabulary has ``VOCABULARY`` entries, the first
``NUM_SPECIAL`` of them special. Run: ``python -m pretraining.tokenizer --corpus DIR --work DIR``.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pretraining import corpus
from pretraining.errors import PretrainingError, run_script
from pretraining.parts import Parts

VOCABULARY = 8192
NUM_SPECIAL = 32
MARKS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|tool_call|>")
SPECIAL = (*MARKS, *(f"<|reserved_{i}|>" for i in range(NUM_SPECIAL - len(MARKS))))
END_OF_TEXT, PAD, END = 0, 1, 5
_DOCUMENT_STEP = 4
"""The tokenizer learns from one document of so many: enough for its counts, and a minute instead of four."""
_TASK_ROWS = 20_000

CHAT_TEMPLATE = (
    "{% if tools %}<|tool|>{% for t in tools %}{% set f = t['function'] if 'function' in t else t %}"
    "{{ '' if loop.first else '\\n' }}{{ f['name'] }}({{ f['parameters']['properties'] | join(', ') if f['parameters'] else '' }})"
    "{{ ': ' + f['description'] if f['description'] else '' }}{% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}<|tool_call|>{\"name\": \"{{ c['function']['name'] }}\", \"arguments\": "
    "{{ c['function']['arguments'] if c['function']['arguments'] is string else c['function']['arguments'] | tojson }}}{% endfor %}"
    "<|end|>{% endgeneration %}"
    "{% else %}<|{{ 'system' if m['role'] == 'developer' else m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""One mark opens a message, ``<|end|>`` closes it. Tools stand first, one a line, as ``name(argument, argument): description``."""


def _training_text(folder: Path) -> Iterator[str]:
    yield from islice(Parts(folder, seed=0).rows("tasks"), _TASK_ROWS)  # the marks of JSON become short
    for pair in corpus.pairs(folder):
        if pair.split != "heldout_dev":
            yield pair.en
            yield pair.fr
    for language in corpus.LANGUAGES:
        for i, (_, document) in enumerate(corpus.documents(folder, language, held_out=False)):
            if i % _DOCUMENT_STEP == 0:
                yield from document.split("\n")


def train_tokenizer(texts: Iterator[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learn the merges. Deterministic: the same texts give the same file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_config() -> dict[str, object]:
    """What stands in ``tokenizer_config.json``."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[END_OF_TEXT],
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[PAD],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def load(work: Path) -> Tokenizer:
    """The tokenizer of a work folder.

    Raises:
        PretrainingError: step 1 was not run there.
    """
    path = work / "tokenizer.json"
    if not path.is_file():
        raise PretrainingError(f"{path} is missing: run python -m pretraining.tokenizer first.")
    return Tokenizer.from_file(str(path))


def main() -> None:
    """Read the command line, learn, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    target = arguments.work / "tokenizer.json"
    if target.exists():
        print(f"tokenizer: {target} is there already")
        return
    corpus.verify(arguments.corpus)
    tokenizer = train_tokenizer(_training_text(arguments.corpus))
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=1) + "\n", encoding="utf-8")
    partial = target.with_suffix(".part")
    tokenizer.save(str(partial))
    partial.replace(target)
    print(f"tokenizer: {tokenizer.get_vocab_size():,} entries in {target}")


if __name__ == "__main__":
    run_script(main)
