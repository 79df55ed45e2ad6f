from luthier.core.similar_rows import RowIndex, TextRow


def _index(*prompts: str) -> RowIndex:
    return RowIndex.of(TextRow(line=line, prompt=prompt, answer="") for line, prompt in enumerate(prompts, start=1))


def test_the_row_with_the_rare_words_comes_first() -> None:
    index = _index("Translate to French: dog", "Translate to French: cat", "Translate to French: the black cat sleeps")
    found = index.similar("Translate to French: cat", 5)
    assert [s.row.line for s in found] == [2, 3, 1]
    assert found[0].similarity == 1.0 or abs(found[0].similarity - 1.0) < 1e-9
    assert found[0].shared[0] == "cat"
    assert all(0 < s.similarity <= 1 for s in found)


def test_rows_without_a_common_word_are_not_told() -> None:
    assert _index("one two", "three").similar("four", 5) == ()
    assert _index().similar("four", 5) == ()


def test_case_and_marks_do_not_matter_and_few_are_told() -> None:
    index = _index("Ça va?", "ça, va!", "ÇA VA", "other")
    found = index.similar("ça va", 2)
    assert [s.row.line for s in found] == [1, 2]


def test_a_file_of_one_row_has_a_neighbour() -> None:
    assert [s.row.line for s in _index("good morning").similar("good evening", 3)] == [1]
