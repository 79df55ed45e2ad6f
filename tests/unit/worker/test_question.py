"""The open question of stage 5: unseen where it can be, and honest about it where not."""

import json
import tracemalloc
from pathlib import Path

from luthier.core.conversation import conversation_of
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.data.stage import collect
from luthier.evaluation.stage import MAX_QUESTIONS, held_out_questions
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


def test_rows_that_ask_nothing_are_passed_over() -> None:
    only_answer = SftExample(source=SourceLine("file-x", 1), conversation=conversation_of([{"role": "assistant", "content": "1"}]))
    one = dataset(("a", "1"))
    mute = Dataset(file_id="file-x", row_format=RowFormat.CHAT, examples=(only_answer,), num_lines=1, fingerprint="f")
    assert open_question(mute, one).text == "a"
    assert open_question(one, mute) == open_question(one, None)
    assert open_question(mute, None).text == "Hello"


def test_a_large_file_is_never_held_in_memory(tmp_path: Path) -> None:
    """Files of 20 MB each, all of whose questions are in the training file but the last."""
    filler = "word " * 2000
    num_rows = 2000

    def stored(name: str, last: str) -> Dataset:
        path = tmp_path / name
        with path.open("w") as file:
            for number in range(num_rows):
                asked = last if number == num_rows - 1 else f"{number} {filler}"
                talk = [{"role": "user", "content": asked}, {"role": "assistant", "content": "yes"}]
                file.write(json.dumps({"messages": talk}) + "\n")
        return collect("file-x", path, role="training", max_line_bytes=100_000, sha256="")

    training, validation = stored("train.jsonl", "the last one"), stored("valid.jsonl", "an unseen one")
    tracemalloc.start()
    try:
        question = open_question(training, validation)
        of_question = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        held_out = held_out_questions(validation, 1)
        of_held_out = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (question.text, question.held_out) == ("an unseen one", True)
    assert len(held_out) == MAX_QUESTIONS
    assert of_question < 1_000_000
    # The chosen questions themselves, each text held a few times, and not ten times as many.
    assert of_held_out < 2.5 * MAX_QUESTIONS * len(filler) * 2
