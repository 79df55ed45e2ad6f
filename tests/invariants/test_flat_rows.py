"""Rows end to end, the way of GPUs, give the losses and gradients of padded rows; losses in pieces give those of whole logits."""

import pytest
import torch
import torch.nn.functional as F

from luthier.models import linear_cross_entropy
from luthier.models.adapter_form import AdapterForm
from luthier.models.head import Head
from luthier.models.linear_cross_entropy import head_losses
from luthier.models.load import load_model
from tests.support.tiny_models import build


def _loss_and_gradients(model, *, flat, method, ids_BT, lengths, rows, columns):
    model.flat = flat
    if method != "full":
        model.add_adapter("a", rank=4, alpha=8.0, seed=1, form=AdapterForm(dora=method == "dora"))
        parameters = model.adapter_parameters("a")
        for number, parameter in enumerate(parameters):
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    else:
        parameters = model.all_parameters()
    for parameter in parameters:
        parameter.requires_grad_(True)
    weights = torch.linspace(0.0, 1.5, len(rows))
    targets = ids_BT[rows, columns]
    with model.use_adapter("a" if method != "full" else None):
        loss, hits, _ = model.losses_at(ids_BT, torch.tensor(lengths), rows, columns - 1, targets, weights)
        loss.backward()
    gradients = [p.grad.clone() for p in parameters]
    model.remove_adapter("a")
    for parameter in parameters:
        parameter.grad = None
    return loss.detach(), hits, gradients


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_flat_rows_equal_padded_rows(tmp_path, family, method, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "rows_at_once", lambda *_, **__: 3)
    model = load_model(build(family, tmp_path / "m"), dtype=torch.float64)
    lengths = [7, 30, 1 + 1, 19]
    ids_BT = torch.randint(6, 8192, (4, 30), generator=torch.Generator().manual_seed(3))
    rows = torch.tensor([0, 0, 1, 1, 1, 2, 3])
    columns = torch.tensor([3, 6, 1, 20, 29, 1, 18])
    arguments = {"method": method, "ids_BT": ids_BT, "lengths": lengths, "rows": rows, "columns": columns}
    padded = _loss_and_gradients(model, flat=False, **arguments)
    flat = _loss_and_gradients(model, flat=True, **arguments)
    torch.testing.assert_close(flat[0].double(), padded[0].double(), rtol=1e-6, atol=1e-6)
    assert torch.equal(flat[1], padded[1])
    for ours, theirs in zip(flat[2], padded[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    model.flat = True
    logits = model.logits_at(ids_BT, torch.tensor(lengths), rows, columns)
    model.flat = False
    torch.testing.assert_close(logits, model.logits_at(ids_BT, torch.tensor(lengths), rows, columns), rtol=1e-5, atol=1e-5)


def test_other_rows_and_padding_change_nothing(tmp_path):
    model = load_model(build("llama", tmp_path / "m"), dtype=torch.float64)
    model.flat = True
    ids = torch.randint(6, 8192, (3, 20), generator=torch.Generator().manual_seed(3))
    at = torch.tensor([1, 1]), torch.tensor([0, 9])
    together = model.logits_at(ids, torch.tensor([20, 10, 5]), *at)
    other = ids.clone()
    other[0] = 7
    other[1, 10:] = 9
    torch.testing.assert_close(model.logits_at(other, torch.tensor([20, 10, 5]), *at), together)


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
def test_losses_in_pieces_equal_whole_logits(rows, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "rows_at_once", lambda *_, **__: rows)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 6, generator=generator, requires_grad=True)
    head = torch.nn.Parameter(torch.randn(11, 6, generator=generator))
    targets, weights = torch.randint(11, (9,), generator=generator), torch.rand(9, generator=generator)
    weights[2] = 0.0
    logits = x @ head.t()
    expected = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    wanted = torch.autograd.grad(expected / 7, (x, head))
    output = Head(head)
    loss, hits, _ = head_losses(x, output, targets, weights)
    torch.testing.assert_close(loss, expected)
    assert torch.equal(hits, (logits.argmax(-1) == targets).long())
    (loss / 7).backward()
    for found, theirs in zip((x.grad, head.grad), wanted, strict=True):
        torch.testing.assert_close(found, theirs)
    with torch.no_grad():
        torch.testing.assert_close(head_losses(x, output, targets, weights)[0], expected)
