"""Preparing a data set: cutting, leaving out what teaches nothing, refusing a set of which nothing is left."""

import numpy as np
import pytest

from luthier.core.conversation import Conversation, Message, Role
from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.core.tokens import Rendered, TokenKind, TokenSpan
from luthier.preprocessing.stage import prepare


class LetterRenderer:
    """One token per letter; the assistant's letters are trained."""

    def examples(self, conversations, row_format: str = "chat") -> list[Rendered | InvalidRequest]:
        return [self.example(conversation, row_format) for conversation in conversations]

    def example(self, conversation: Conversation, row_format: str) -> Rendered | InvalidRequest:
        assert row_format == "prompt_completion"
        ids, weights, spans = [], [], []
        for number, message in enumerate(conversation.messages):
            kind = TokenKind.TRAINED if message.role is Role.ASSISTANT else TokenKind.CONTEXT
            spans.append(TokenSpan(start=len(ids), end=len(ids) + len(message.content), kind=kind, message=number, role=message.role))
            ids += [ord(letter) for letter in message.content]
            weights += [float(kind is TokenKind.TRAINED)] * len(message.content)
        return Rendered(ids_T=np.array(ids), weights_T=np.array(weights, dtype=np.float32), spans=tuple(spans))


def _dataset(*rows: tuple[str, str]) -> Dataset:
    examples = tuple(
        SftExample(
            source=SourceLine("file-A", line),
            conversation=Conversation(messages=(Message(role=Role.USER, content=q), Message(role=Role.ASSISTANT, content=a))),
        )
        for line, (q, a) in enumerate(rows, start=1)
    )
    return Dataset(file_id="file-A", row_format=RowFormat.PROMPT_COMPLETION, examples=examples, num_lines=len(rows), fingerprint="x")


def test_tokens_are_counted_and_short_rows_left_whole():
    done = prepare(_dataset(("abc", "de"), ("a", "b")), LetterRenderer(), max_length=5, role="training")
    assert (done.num_tokens, done.num_trained, done.num_truncated, done.num_skipped) == (7, 3, 0, 0)
    assert [e.source.line for e in done.examples] == [1, 2]


def test_a_long_row_is_cut_at_the_end_with_its_spans():
    done = prepare(_dataset(("abc", "defg")), LetterRenderer(), max_length=5, role="training")
    example = done.examples[0]
    assert example.rendered.ids_T.tolist() == [ord(c) for c in "abcde"]
    assert example.rendered.weights_T.tolist() == [0, 0, 0, 1, 1]
    assert [(s.start, s.end) for s in example.rendered.spans] == [(0, 3), (3, 5)]
    assert (example.truncated, done.num_truncated) == (2, 1)


def test_a_row_whose_answer_lies_past_the_cut_is_left_out_and_named():
    done = prepare(_dataset(("a", "b"), ("abcdef", "g")), LetterRenderer(), max_length=4, role="training")
    assert len(done.examples) == 1
    assert (done.num_skipped, done.skipped) == (1, (SourceLine("file-A", 2),))


@pytest.mark.parametrize("role", ["training", "validation"])
def test_training_on_nothing_is_refused(role):
    with pytest.raises(JobFailure) as caught:
        prepare(_dataset(("abcdef", "g")), LetterRenderer(), max_length=4, role=role)
    assert (caught.value.code, caught.value.param) == (f"invalid_{role}_file", f"{role}_file")


def test_batches_come_from_the_prepared_rows():
    done = prepare(_dataset(*[("a" * n, "b") for n in range(1, 10)]), LetterRenderer(), max_length=20, role="training")
    batches = done.epoch_batches(batch_size=2, seed=1, epoch=1)
    batch = done.batch(batches[0])
    assert [s.line - 1 for s in batch.sources] == batches[0]


def test_a_row_that_the_template_refuses_fails_the_job_by_line():
    class Refusing(LetterRenderer):
        def example(self, conversation: Conversation, row_format: str) -> Rendered | InvalidRequest:
            if conversation.messages[0].content == "bad":
                return InvalidRequest("Roles must alternate.")
            return super().example(conversation, row_format)

    with pytest.raises(JobFailure, match=r"Example 2 cannot be written in .* chat format: Roles must alternate\.") as caught:
        prepare(_dataset(("a", "b"), ("bad", "b")), Refusing(), max_length=4, role="training")
    assert caught.value.code == "invalid_training_file"
