"""Preparing a data set: cutting, refusing rows that teach nothing or leaving them out, splitting rows that the template rewrites."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from luthier.core.conversation import Conversation, Message, Role
from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.core.tokens import Rendered, TokenKind, TokenSpan
from luthier.preprocessing.learnable import check_learnable
from luthier.preprocessing.stage import prepare


class LetterRenderer:
    """One token per letter; the assistant's letters are trained."""

    def example(self, conversation: Conversation, row_format: str = "chat") -> Rendered:
        assert row_format == "prompt_completion"
        ids, weights, spans = [], [], []
        for number, message in enumerate(conversation.messages):
            kind = TokenKind.TRAINED if message.role is Role.ASSISTANT else TokenKind.CONTEXT
            spans.append(TokenSpan(start=len(ids), end=len(ids) + len(message.content), kind=kind, message=number, role=message.role))
            ids += [ord(letter) for letter in message.content]
            weights += [float(kind is TokenKind.TRAINED)] * len(message.content)
        return Rendered(ids_T=np.array(ids), weights_T=np.array(weights, dtype=np.float32), spans=tuple(spans))

    def examples(self, conversations: Sequence[Conversation], row_format: str = "chat") -> list[Rendered | InvalidRequest]:
        done: list[Rendered | InvalidRequest] = []
        for conversation in conversations:
            try:
                done.append(self.example(conversation, row_format))
            except InvalidRequest as refusal:
                done.append(refusal)
        return done

    def in_bulk(self, conversations: Sequence[Conversation]) -> None:
        return None

    def split(self, conversation: Conversation, row_format: str = "chat") -> Sequence[Conversation]:
        return (conversation,)

    def most_tokens(self, conversation: Conversation, row_format: str = "chat") -> int:
        return len(self.example(conversation, row_format).ids_T)


class SplittingRenderer(LetterRenderer):
    """Rewrites the first answer of a talk."""

    def example(self, conversation: Conversation, row_format: str = "chat") -> Rendered:
        rendered = super().example(conversation, row_format)
        return replace(rendered, rewritten=(1,) if len(conversation.messages) > 2 else ())

    def split(self, conversation: Conversation, row_format: str = "chat") -> Sequence[Conversation]:
        return tuple(Conversation(messages=conversation.messages[at : at + 2]) for at in range(0, len(conversation.messages), 2))


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


LONG = (("a", "b"), ("abcdef", "g"), ("a", "b"), ("abcdef", "g"))


def test_rows_whose_answer_lies_past_the_cut_are_an_error_with_all_their_lines():
    message = (
        r"^The job failed due to an invalid training file\. 2 examples have no token to learn from \(lines 2, 4\): "
        r"the answer has no weight or begins past the length limit of 4 tokens\. "
        r"Raise luthier\.max_length .*, or set luthier\.skip_untrained to leave them out\.$"
    )
    with pytest.raises(JobFailure, match=message) as caught:
        prepare(_dataset(*LONG), LetterRenderer(), max_length=4, role="training")
    assert (caught.value.code, caught.value.param) == ("invalid_training_file", "training_file")
    with pytest.raises(JobFailure, match=r"Example 2 has no token to learn from: ") as caught:
        prepare(_dataset(*LONG[:2]), LetterRenderer(), max_length=4, role="validation")
    assert (caught.value.code, caught.value.param) == ("invalid_validation_file", "validation_file")


def test_they_are_left_out_and_named_when_that_was_asked_for():
    done = prepare(_dataset(*LONG), LetterRenderer(), max_length=4, role="training", skip_untrained=True)
    assert [e.source.line for e in done.examples] == [1, 3]
    assert (done.num_skipped, done.skipped) == (2, (SourceLine("file-A", 2), SourceLine("file-A", 4)))


def test_of_very_many_lines_the_first_fifty_are_named():
    with pytest.raises(JobFailure, match=r"60 examples have no token .*\(lines 1, 2, .* 49, 50 and 10 more\)"):
        prepare(_dataset(*[("abcdef", "g")] * 60, ("a", "b")), LetterRenderer(), max_length=4, role="training")


def test_the_early_check_finds_the_same_rows():
    for dataset, skip in ((_dataset(*LONG), False), (_dataset(("abcdef", "g")), True)):
        with pytest.raises(JobFailure) as late:
            prepare(dataset, LetterRenderer(), max_length=4, role="training", skip_untrained=skip)
        with pytest.raises(JobFailure) as early:
            check_learnable(dataset, LetterRenderer(), max_length=4, role="training", skip_untrained=skip)
        assert str(early.value) == str(late.value)
    check_learnable(_dataset(*LONG), LetterRenderer(), max_length=4, role="training", skip_untrained=True)
    check_learnable(_dataset(*LONG), LetterRenderer(), max_length=7, role="training", skip_untrained=False)


def test_the_early_check_tokenizes_only_what_may_be_too_long():
    class Counting(LetterRenderer):
        seen = 0

        def examples(self, conversations: Sequence[Conversation], row_format: str = "chat") -> list[Rendered | InvalidRequest]:
            self.seen += len(conversations)
            return super().examples(conversations, row_format)

    renderer = Counting()
    with pytest.raises(JobFailure):
        check_learnable(_dataset(*LONG), renderer, max_length=4, role="training", skip_untrained=False)
    assert renderer.seen == 2


def test_a_row_that_the_template_rewrites_gives_an_example_for_each_answer():
    words = ("ab", "cd", "e", "fgh")
    messages = tuple(Message(role=Role.ASSISTANT if i % 2 else Role.USER, content=word) for i, word in enumerate(words))
    dataset = _dataset(("a", "b"))
    talk = SftExample(source=SourceLine("file-A", 2), conversation=Conversation(messages=messages))
    dataset = replace(dataset, examples=(*dataset.examples, talk))
    done = prepare(dataset, SplittingRenderer(), max_length=9, role="training")
    assert [(e.source.line, bytes(e.rendered.ids_T.tolist())) for e in done.examples] == [(1, b"ab"), (2, b"abcd"), (2, b"efgh")]
    assert (done.num_rows, done.num_trained) == (2, 6)
    cut = prepare(dataset, SplittingRenderer(), max_length=1 + 1, role="training", skip_untrained=True)
    assert [bytes(e.rendered.ids_T.tolist()) for e in cut.examples] == [b"ab", b"ef"]


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
        def example(self, conversation: Conversation, row_format: str = "chat") -> Rendered:
            if conversation.messages[0].content == "bad":
                raise InvalidRequest("Roles must alternate.")
            return super().example(conversation, row_format)

    with pytest.raises(JobFailure, match=r"Example 2 cannot be written in .* chat format: Roles must alternate\.$") as caught:
        prepare(_dataset(("a", "b"), ("bad", "b")), Refusing(), max_length=4, role="training")
    assert caught.value.code == "invalid_training_file"
    several = _dataset(("a", "b"), ("bad", "b"), ("bad", "c"))
    for look in (prepare, check_learnable):
        with pytest.raises(JobFailure, match=r"Example 2 .*alternate\. 2 examples cannot: lines 2, 3\."):
            look(several, Refusing(), max_length=4, role="training", skip_untrained=True)
