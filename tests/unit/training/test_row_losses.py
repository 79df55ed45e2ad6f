"""Each line's loss of each epoch: that of the step that read it, once, also over a resume."""

import numpy as np
import pytest
import torch

from luthier.core.errors import NotFound
from luthier.core.row_losses import ROW, known_epochs, read_epoch, write_epoch
from luthier.models.head import Head
from luthier.models.linear_cross_entropy import head_losses
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer
from luthier.training.row_losses import RowLosses
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


def _train(folder, train, hooks, **options):
    run_dir = folder / "run"
    spec = spec_for(train)
    return Trainer(TrainableModel(), spec, train, None, hooks, folder / "state", run_dir=run_dir, **options).run(), run_dir, spec


def test_every_line_stands_once_in_each_epoch_and_the_means_are_those_of_the_steps(tmp_path):
    train, hooks = prepared(), Recorder()
    _, run_dir, spec = _train(tmp_path, train, hooks)
    assert known_epochs(run_dir) == [1, 2, 3]
    for epoch in (1, 2, 3):
        rows = read_epoch(run_dir, epoch)
        assert rows["line"].tolist() == sorted(e.source.line for e in train.examples)
        whole = float((rows["loss"] * rows["tokens"]).sum() / rows["tokens"].sum())
        assert whole == pytest.approx(hooks.epochs[epoch - 1].train_loss, rel=1e-5)
    lines = {example.source.line: index for index, example in enumerate(train.examples)}
    first = train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1)[0]
    for row in read_epoch(run_dir, 1):
        if lines[row["line"]] in first:
            assert row["loss"] == pytest.approx(measure(TrainableModel(), train, [lines[row["line"]]]).loss, rel=1e-5)


def test_an_interrupted_run_ends_with_the_same_files_to_the_bit(tmp_path):
    train = prepared()
    _, whole, _ = _train(tmp_path / "whole", train, Recorder())
    result, cut, _ = _train(tmp_path / "cut", train, Recorder(stop_after=4))
    assert result.stopped
    assert known_epochs(cut) == [], "an epoch that is not over has no file"
    result, cut, _ = _train(tmp_path / "cut", train, Recorder(stop_after=5))
    assert known_epochs(cut) == [1]
    _train(tmp_path / "cut", train, Recorder())
    for epoch in known_epochs(whole):
        assert np.array_equal(read_epoch(whole, epoch), read_epoch(cut, epoch))


def test_without_a_folder_nothing_is_kept(tmp_path):
    rows = RowLosses(prepared(), None)
    rows.add([0], torch.ones(3))
    rows.finish(1)
    assert rows.state() == {}


def test_a_method_without_losses_by_token_leaves_no_file(tmp_path):
    rows = RowLosses(prepared(), tmp_path)
    rows.add([0, 1], None)
    rows.finish(1)
    assert known_epochs(tmp_path) == []


def test_a_state_of_an_older_version_is_gone_on_from(tmp_path):
    train = prepared()
    rows = RowLosses(train, tmp_path)
    rows.restore({})
    rows.add([3], torch.full((train.examples[3].rendered.num_trained,), 2.0))
    rows.finish(1)
    assert read_epoch(tmp_path, 1).tolist() == [(train.examples[3].source.line, train.examples[3].rendered.num_trained, 2.0)]


def test_what_is_half_written_is_no_epoch(tmp_path):
    write_epoch(tmp_path, 2, np.zeros(3, dtype=ROW))
    (tmp_path / "row_losses" / "epoch-000003.new").write_bytes(b"torn")
    assert known_epochs(tmp_path) == [2]
    with pytest.raises(NotFound):
        read_epoch(tmp_path, 3)


def test_losses_made_in_pieces_are_those_of_one_piece(monkeypatch):
    from luthier.models import linear_cross_entropy

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=generator)
    head = torch.nn.Parameter(torch.randn(11, 5, generator=generator))
    targets, weights = torch.arange(7), torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0, 1.0, 1.0])
    expected = torch.nn.functional.cross_entropy(x @ head.detach().t(), targets, reduction="none") * weights
    for rows in (100, 2):
        monkeypatch.setattr(linear_cross_entropy, "rows_at_once", lambda *_, rows=rows, **__: rows)
        loss, _, losses = head_losses(x, Head(head), targets, weights)
        torch.testing.assert_close(losses, expected)
        torch.testing.assert_close(loss, expected.sum())
