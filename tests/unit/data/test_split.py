"""Split: labels get their share, near-equal prompts stay together, and the figures are those of the files."""

import json
from pathlib import Path

import numpy as np
import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.import_rows import BadRows
from luthier.data.near_equal import group, minhash, normal, prompts_of
from luthier.data.split import Split, split
from luthier.data.word_sets import Groups

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def _row(*texts: str) -> dict:
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]}


def _split(folder: Path, rows: list[dict], share: float = 0.2, seed: int = 0) -> tuple[Split, list[dict], list[dict]]:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = split(folder / "a.jsonl", folder / "t.jsonl", folder / "v.jsonl", share=share, seed=seed, max_line_bytes=1 << 20)
    train, valid = ([json.loads(line) for line in (folder / n).read_text().splitlines()] for n in ("t.jsonl", "v.jsonl"))
    assert (len(train), len(valid)) == (done.num_train, done.num_valid)
    return done, train, valid


def test_each_label_gets_its_share(tmp_path):
    rows = [_row(f"text {'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}", "yes" if i % 4 else "no") for i in range(100)]
    done, _, _ = _split(tmp_path, rows)
    assert done.labels == {"no": (20, 5), "yes": (60, 15)}


def test_a_hundred_and_fifty_intents_are_labels(tmp_path):
    rows = [_row(f"{first}{second} {i}", f"intent of a customer, number {i}") for i in range(150) for first in "abcde" for second in "xy"]
    done, _, _ = _split(tmp_path, rows)
    assert done.labels is not None
    assert len(done.labels) == 150
    assert set(done.labels.values()) == {(8, 2)}


def test_long_answers_are_no_labels_and_the_seed_counts(tmp_path):
    rows = [_row(f"q{chr(97 + i)}", f"a long answer of its own, the one with the letter {chr(97 + i)}") for i in range(20)]
    done, _, valid = _split(tmp_path, rows, seed=1)
    assert done.labels is None
    assert done.num_valid == 4
    (tmp_path / "b").mkdir()
    assert _split(tmp_path / "b", rows, seed=2)[2] != valid


def test_equal_prompts_stay_on_one_side_case_spaces_and_numbers_aside(tmp_path):
    words = ["red", "blue", "green", "black", "white", "grey", "pink", "brown"]
    rows = [
        _row(text, f"{text} {i}") for i, w in enumerate(words) for text in (f"paint it {w} 1", f"Paint  it {w} 27.", f"PAINT IT {w} 3!")
    ]
    done, train, valid = _split(tmp_path, rows, share=0.25)
    sides = [{normal(row["messages"][0]["content"]).split()[2] for row in part} for part in (train, valid)]
    assert sides[0].isdisjoint(sides[1])
    assert (done.num_groups, done.num_grouped, done.largest_group, done.num_valid) == (8, 24, 3, 6)


def test_numbers_count_where_rows_are_about_them():
    sums = [[normal(f"{a} plus {b}?")] for a in range(4) for b in range(4)]
    assert len(group(sums, None)) == 16
    assert len(group(sums[:10], None)) == 1


def test_a_talk_stays_with_the_talk_that_it_goes_on_from():
    rows = [_row("hi", "hello", "and now", "yes"), _row("hi", "hello"), _row("Hi", "hello", "and then", "no"), _row("bye", "so long")]
    assert sorted(map(sorted, group([prompts_of(row) for row in rows], None))) == [[0, 1, 2], [3]]


def test_prompts_of_every_kind_of_row():
    assert prompts_of({"prompt": "A 12.", "completion": "x"}) == ["a 12"]
    assert prompts_of({"input": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Q?"}]}}) == ["q"]
    assert prompts_of({"messages": [{"role": "user", "content": [{"type": "text", "text": "Part"}]}]}) == ["part"]
    assert prompts_of({"text": "a"}) != prompts_of({"text": "b"})


def test_groups_join_in_any_order():
    groups = Groups(5)
    groups.join_equal([7, 8, 9, 8, 9, 7], [0, 1, 3, 4, 4, 2])
    assert groups.labels().tolist() == [0, 1, 0, 1, 1]


class _Matrix:
    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    def to_rows(self) -> list[list[int]]:
        return self._rows


class _Sketches:
    """A library that proposes every pair: each sketch is the same."""

    class RMinHash:
        @staticmethod
        def digest_matrix_from_flat_token_hashes(_tokens: object, offsets: np.ndarray, num_perm: int, _seed: int) -> _Matrix:
            return _Matrix([[1] * num_perm] * (len(offsets) - 1))


def test_near_equal_prompts_join_when_there_is_a_library():
    long = "alpha beta gamma delta epsilon zeta one two three four"
    prompts = [[f"{long} eta"], [f"{long} theta"], ["one two three four five six seven"], ["short"]]
    assert len(group(prompts, None)) == 4
    assert sorted(map(sorted, group(prompts, _Sketches))) == [[0, 1], [2], [3]]


def test_with_rensa_one_word_of_many_is_near_and_short_prompts_are_not():
    pytest.importorskip("rensa")
    long = "the quick brown fox jumps over a lazy dog while nine very old wizards watch from behind their garden wall and laugh"
    prompts = [[f"{long} loudly"], [f"{long} quietly"], ["translate to french cat"], ["translate to french dog"], [long[::-1]]]
    assert sorted(map(sorted, group(prompts, minhash()))) == [[0, 1], [2], [3], [4]]


def test_lines_are_copied_as_they_are(tmp_path):
    lines = [f'{{"prompt":   "caf\\u00e9 {w}", "completion": "{w}"}}'.encode() for w in "abcdefgh"]
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    split(tmp_path / "a", tmp_path / "t", tmp_path / "v", share=0.25, seed=0, max_line_bytes=1000)
    copied = (tmp_path / "t").read_bytes().splitlines() + (tmp_path / "v").read_bytes().splitlines()
    assert sorted(copied) == lines


@pytest.mark.parametrize("content", ["", "{nope\n", '{"prompt": "a", "completion": "b"}\n' * 9])
def test_what_cannot_be_split_leaves_nothing(tmp_path, content):
    (tmp_path / "a").write_text(content)
    with pytest.raises(BadRows, match="nothing was written"):
        split(tmp_path / "a", tmp_path / "t", tmp_path / "v", share=0.5, seed=0, max_line_bytes=1000)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_names_and_shares_that_cannot_be(tmp_path):
    (tmp_path / "a").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "b", "completion": "b"}\n')
    for train, valid, share in (("a", "v", 0.5), ("t", "a", 0.5), ("t", "t", 0.5), ("t", "v", 0), ("t", "v", 1)):
        with pytest.raises(InvalidRequest):
            split(tmp_path / "a", tmp_path / train, tmp_path / valid, share=share, seed=0, max_line_bytes=1000)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_intents_of_the_example_are_split_evenly(tmp_path):
    rows = [json.loads(line) for line in (EXAMPLES / "intent-label" / "train.jsonl").read_text().splitlines()]
    done, _, _ = _split(tmp_path, rows, share=0.1)
    assert done.labels is not None
    assert set(done.labels.values()) == {(36, 4)}


def test_rows_with_one_key_stay_on_one_side(tmp_path: Path) -> None:
    path, train, valid = tmp_path / "all.jsonl", tmp_path / "train.jsonl", tmp_path / "valid.jsonl"
    rows = [{"prompt": f"{letter}{number} " * 3, "completion": f"{letter}"} for letter in "abcdefghij" for number in ("x", "y", "z")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told: list[int] = []

    def key_of(line: bytes) -> str | None:
        letter = json.loads(line)["completion"]
        return None if letter == "j" else letter

    done = split(path, train, valid, share=0.3, seed=1, max_line_bytes=1000, key_of=key_of, on_progress=told.append)
    sides = [{json.loads(line)["completion"] for line in side.read_text(encoding="utf-8").splitlines()} for side in (train, valid)]
    assert sides[0] & sides[1] <= {"j"}
    assert (done.num_keyed, done.num_groups, done.largest_group) == (27, 12, 3)
    assert done.to_dict()["rows_with_a_key"] == 27
    assert done.method.startswith("what rows belong to, ")
    assert told == []  # less than a megabyte
