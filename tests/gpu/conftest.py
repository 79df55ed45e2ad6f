"""Tests that need a GPU: skipped, with the reason, where torch finds none."""

import pytest


def pytest_collection_modifyitems(items) -> None:
    """Mark everything in this folder, and skip it without a GPU."""
    import torch

    here = [item for item in items if "tests/gpu" in str(item.path)]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=f"torch {torch.__version__} finds no GPU here"))
