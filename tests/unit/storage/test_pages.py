"""Cutting rows to a page."""

from luthier.storage.pages import Page, cut


def test_one_row_more_means_more() -> None:
    assert cut([1, 2, 3], 2, str) == Page(items=("1", "2"), has_more=True)
    assert cut([1, 2], 2, str) == Page(items=("1", "2"), has_more=False)
    assert cut([], 2, str) == Page(items=(), has_more=False)
