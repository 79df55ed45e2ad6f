"""The open question of stage 5: unseen where it can be, and honest about it where not."""

from luthier.core.conversation import conversation_of
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.worker.question import open_question


def dataset(*pairs: tuple[str, str]) -> Dataset:
    examples = tuple(
        SftExample(
            source=SourceLine("file-x", line),
            conversation=conversation_of([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]),
        )
        for line, (asked, answer) in enumerate(pairs, start=1)
    )
    return Dataset(file_id="file-x", row_format=RowFormat.CHAT, examples=examples, num_lines=len(pairs), fingerprint="f")


def test_the_first_validation_prompt_that_training_has_not_seen() -> None:
    question = open_question(dataset(("a", "1"), ("b", "2")), dataset(("b", "2"), ("c", "3")))
    assert question.text == "c"
    assert question.held_out
    assert question.messages == ({"role": "user", "content": "c"},)


def test_without_an_unseen_one_a_training_prompt_marked_as_seen() -> None:
    for validation in (None, dataset(("a", "1"))):
        question = open_question(dataset(("a", "1"), ("b", "2")), validation)
        assert question.text == "a"
        assert not question.held_out
