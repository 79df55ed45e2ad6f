"""What becomes of a step for which the device has too little memory: cut smaller, then blocks made again, then a sentence."""

from dataclasses import replace

import pytest
import torch

from luthier.core.errors import JobFailure
from luthier.training.loop import Trainer
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


class Small(TrainableModel):
    """Holds so many rows at once; with ``most_rows`` 0 one alone, when blocks are made again."""

    def __init__(self, most_rows: int, *, never: bool = False) -> None:
        super().__init__()
        self.most_rows, self.never = most_rows, never
        self.seen: list[tuple[int, bool]] = []

    def logits_at(self, ids_BT, lengths_B, rows_N, columns_N):
        if torch.is_grad_enabled():
            if self.never or len(ids_BT) > max(1, self.most_rows) or (self.most_rows == 0 and not self.recompute):
                raise torch.OutOfMemoryError("too little")
            self.seen.append((len(ids_BT), self.recompute))
        return super().logits_at(ids_BT, lengths_B, rows_N, columns_N)


def _run(tmp_path, model, name="run"):
    data = prepared(12)
    hooks = Recorder()
    Trainer(model, spec_for(data, epochs=2, batch_size=4), data, None, hooks, tmp_path / name).run()
    return hooks


def _sentences(hooks):
    return [notice.message for notice in hooks.notices]


@pytest.mark.parametrize("most_rows", [1, 2, 3])
def test_a_step_is_cut_smaller_and_learns_the_same(tmp_path, most_rows):
    model = Small(most_rows)
    found, wanted = _run(tmp_path, model), _run(tmp_path, TrainableModel(), "whole")
    assert [s.loss for s in found.steps] == pytest.approx([s.loss for s in wanted.steps], rel=1e-5)
    told = _sentences(found)
    assert 1 <= len(told) <= 6
    assert told[0].startswith("The device's memory did not hold step 1 as it was cut: from now on its rows lie in ")
    assert not any(again for _, again in model.seen)
    assert max(rows for rows, _ in model.seen) <= most_rows
    # What was found out holds for the steps that follow: none is tried in vain once the cut is small enough for the longest rows.
    assert len(told) == len(set(told)) < len(found.steps)


def test_where_each_row_lies_alone_blocks_are_made_again(tmp_path):
    model = Small(0)
    found, wanted = _run(tmp_path, model), _run(tmp_path, TrainableModel(), "whole")
    assert [s.loss for s in found.steps] == pytest.approx([s.loss for s in wanted.steps], rel=1e-5)
    assert "blocks are made again on the way back" in _sentences(found)[-1]
    assert set(model.seen) == {(1, True)}


def test_a_row_that_never_fits_ends_the_job_with_its_line(tmp_path):
    with pytest.raises(JobFailure, match=r"The row on line \d+ \(\d+ tokens\) does not fit into the device's memory") as caught:
        _run(tmp_path, Small(0, never=True))
    assert caught.value.code == "insufficient_memory"


def test_a_run_that_asked_for_it_has_one_way_less(tmp_path):
    data = prepared(12)
    spec = replace(spec_for(data, epochs=1, batch_size=4), gradient_checkpointing=True)
    hooks = Recorder()
    with pytest.raises(JobFailure):
        Trainer(Small(0, never=True), spec, data, None, hooks, tmp_path).run()
    assert all("blocks are made again" not in sentence for sentence in _sentences(hooks))
