"""What each stage says of itself in the trace: shapes in and out, what was done, one real sample, what was changed.

Pure: from a stage's result to a ``StageFinished``. What it does not: compute anything that was not measured. Called by
``worker/pipelines.py``.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from luthier.chat.renderer import Renderer
from luthier.core.conversation import message_to_dict
from luthier.core.examples import Dataset, PreferenceExample, RowFormat, TunableExample
from luthier.preprocessing.pack import Packing
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import EpochDone, StageFinished, TraceEvent

# Longest text of a sample that goes into the log, characters; the log says where it was cut.
_MAX_SAMPLE_CHARACTERS = 2000
_MAX_SAMPLE_TOKENS = 256


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SAMPLE_CHARACTERS else text[:_MAX_SAMPLE_CHARACTERS] + " … (cut)"


def sample_of(example: TunableExample, row_format: RowFormat) -> dict[str, Any]:
    """One example as a person would read it; of a pair the preferred answer is the last message, the other one ``other``."""
    messages = example.conversation.messages
    if row_format is RowFormat.PROMPT_COMPLETION:
        return {"line": example.source.line, "prompt": _cut(messages[0].content), "completion": _cut(messages[1].content)}
    plain = [{**message_to_dict(m), "content": _cut(m.content)} for m in messages]
    pair = {"other": _cut(example.non_preferred.content)} if isinstance(example, PreferenceExample) else {}
    return {"line": example.source.line, "messages": plain, **pair}


def _shape(dataset: Dataset) -> str:
    count = len(dataset.examples)
    if dataset.row_format is RowFormat.PROMPT_COMPLETION:
        return f"{count:,} examples x 2 columns (prompt, completion)"
    if dataset.row_format is RowFormat.PREFERENCE:
        return f"{count:,} prompts with 2 answers each, a preferred one and another"
    roles = Counter(m.role.value for e in dataset.examples for m in e.conversation.messages)
    return f"{count:,} conversations, messages by role: " + ", ".join(f"{role} {n:,}" for role, n in roles.items())


def collection(training: Dataset, validation: Dataset | None, seconds: float) -> StageFinished:
    """Stage 1."""
    lines = f"{training.num_lines:,} lines"
    shape_out = _shape(training)
    if validation is not None:
        lines += f" + {validation.num_lines:,} lines for validation"
        shape_out += f"; validation: {_shape(validation)}"
    empty = training.num_lines - len(training.examples)
    return StageFinished(
        shape_in=lines,
        did="read as JSON lines and checked one by one",
        shape_out=shape_out,
        seconds=seconds,
        changes=(f"{empty:,} blank lines left out",) if empty else (),
        sample=sample_of(training.examples[0], training.row_format),
    )


def preprocessing(
    training: Dataset,
    prepared: Prepared,
    validation: Prepared | None,
    renderer: Renderer,
    packing: Packing,
    *,
    reused: bool,
    seconds: float,
) -> StageFinished:
    """Stage 2. ``reused``: the tokens of the training file come from an earlier job."""
    share = prepared.num_trained / prepared.num_tokens
    longest = int(prepared.lengths.max())
    pairs = prepared.rows_per_example > 1
    things = f"tokenized answers in {prepared.num_examples:,} pairs" if pairs else "tokenized examples"
    shape_out = (
        f"{len(prepared.examples):,} {things}, {prepared.num_tokens:,} tokens "
        f"({prepared.num_trained:,} trained, {share:.0%}), longest {longest:,}; "
        f"packed best-fit they fill {_many(packing.num_rows, 'sequence')} of {packing.capacity:,} to {packing.efficiency:.1%}"
    )
    if validation is not None:
        things = "pairs" if pairs else "examples"
        shape_out += f"; validation: {validation.num_examples:,} {things}, {validation.num_tokens:,} tokens"
    changes = []
    if prepared.num_truncated:
        changes.append(f"{_many(prepared.num_truncated, 'example')} cut at the end")
    if 0 < prepared.num_rows < prepared.num_examples:
        extra = prepared.num_examples - prepared.num_rows
        changes.append(
            f"{_many(extra, 'example')} added: the chat template rewrites earlier turns, so their answers are learned one by one"
        )
    if prepared.num_skipped:
        lines = ", ".join(str(s.line) for s in prepared.skipped[:10])
        changes.append(f"{_many(prepared.num_skipped, 'example')} left out as asked, none of their tokens is trained (lines {lines})")
    first = prepared.examples[0]
    tokens = renderer.describe(first.rendered)[:_MAX_SAMPLE_TOKENS]
    shown = [shown_token(t) for t in tokens]
    template = "the model's chat template" if renderer.has_template else "plain text (this base has no chat template)"
    made = "taken from the token cache, where an earlier job had put them, rendered through" if reused else "rendered through"
    return StageFinished(
        shape_in=f"{len(training.examples):,} examples",
        did=f"{made} {template}; only {'the two answers count, as wholes' if pairs else 'assistant tokens count in the loss'}",
        shape_out=shape_out,
        seconds=seconds,
        changes=tuple(changes),
        sample={"line": first.source.line, "tokens": shown},
    )


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def shown_token(token: dict[str, Any]) -> dict[str, Any]:
    """Bytes go along where they alone tell what a token holds: a part of a character."""
    torn = {"bytes": token["bytes"]} if "\ufffd" in token["text"] else {}
    return {"text": token["text"], "kind": token["kind"], "role": token["role"], **torn}


def sample_losses(log: Sequence[TraceEvent]) -> list[dict[str, float]]:
    """Loss of the sample example after each epoch of the run; of an epoch that a resumed run repeats, the later attempt's."""
    losses = {e.payload.epoch: e.payload.sample_loss for e in log if isinstance(e.payload, EpochDone)}
    return [{"epoch": float(epoch), "loss": loss} for epoch, loss in sorted(losses.items()) if loss is not None]


def evaluation(report: dict[str, Any], seconds: float) -> StageFinished:
    """Stage 4."""
    sample = report["samples"][0]
    pairs = ""
    if (found := report.get("preference")) is not None:
        now, before = found["tuned"]["prefers"], found["base"]["prefers"]
        pairs = f"; the preferred answer is the likelier one in {now:.0%} of the pairs, {before:.0%} in the base"
    return StageFinished(
        shape_in=f"{report['n']:,} validation examples",
        did="answered greedily and scored by the base and by the tuned model, through the engine that serves them",
        shape_out=f"better on {report['better']:,}, worse on {report['worse']:,}, same on {report['same']:,} of {report['n']:,}{pairs}",
        seconds=seconds,
        sample={k: sample[k] for k in ("line", "prompt", "expected", "base", "tuned")},
    )
