"""The output matrix while it trains: what its steps write over each other, and what they must not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models import linear_cross_entropy
from luthier.models.head import Head
from luthier.models.linear_cross_entropy import head_losses

WIDTH, VOCABULARY = 6, 33


def weight() -> nn.Parameter:
    return nn.Parameter(torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1)))


def rows(seed: int, count: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """(x, targets, weights)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=generator, requires_grad=True)
    return x, torch.randint(VOCABULARY, (count,), generator=generator), torch.rand(count, generator=generator)


def expected(head: nn.Parameter, *batches: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The weight's gradient by torch's own operators."""
    losses = [(F.cross_entropy(x @ head.t(), targets, reduction="none") * weights).sum() for x, targets, weights in batches]
    return torch.autograd.grad(sum(losses, start=torch.zeros(())), head)[0]


def learn(head: Head, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    head_losses(batch[0], head, *batch[1:])[0].backward()
    gradient = head.numbers().grad
    assert gradient is not None
    return gradient


@pytest.fixture(autouse=True)
def _in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_cross_entropy, "rows_at_once", lambda *_, **__: 4)


def test_each_steps_gradient_lies_where_the_last_ones_did() -> None:
    own = weight()
    head, places = Head(own), set()
    for seed in (2, 3, 4):
        gradient = learn(head, rows(seed))
        torch.testing.assert_close(gradient, expected(own, rows(seed)))
        places.add(gradient.data_ptr())
        own.grad = None
    assert len(places) == 1


def test_forwards_of_one_step_add_up() -> None:
    own = weight()
    head = Head(own)
    learn(head, rows(2))
    learn(head, rows(3))
    torch.testing.assert_close(learn(head, rows(4)), expected(own, rows(2), rows(3), rows(4)))


def test_a_forward_without_a_backward_and_one_beside_another_spoil_no_gradient() -> None:
    own = weight()
    head = Head(own)
    head_losses(rows(5)[0], head, *rows(5)[1:])
    first, second = (head_losses(x, head, targets, weights)[0] for x, targets, weights in (rows(2), rows(3)))
    second.backward()
    first.backward()
    assert own.grad is not None
    torch.testing.assert_close(own.grad, expected(own, rows(2), rows(3)))


def test_a_gradient_that_somebody_still_has_is_not_that_of_the_next_forward() -> None:
    own = weight()
    head = Head(own)
    before = learn(head, rows(2)).clone()
    learn(head, rows(3))
    assert own.grad is not None
    torch.testing.assert_close(own.grad - expected(own, rows(3)), before)


def test_what_only_reads_makes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    own = weight()
    head, batch = Head(own), rows(2)
    learned = head_losses(batch[0], head, *batch[1:])[0].detach()
    monkeypatch.setattr(Head, "with_part", lambda *_: pytest.fail("the head's gradient was made"))
    with torch.no_grad():
        read = head_losses(batch[0], head, *batch[1:])[0]
    assert torch.equal(read, learned)
    assert own.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kept_memory_does_not_change_a_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(head: Head) -> list[Tensor]:
        found: list[Tensor] = []
        for seed, count in ((2, 9), (3, 3), (4, 17)):
            x, targets, weights = rows(seed, count)
            x = x.detach().to(dtype).requires_grad_()
            loss, hits, losses = head_losses(x, head, targets, weights)
            (loss / 7).backward()
            gradient = head.numbers().grad
            assert x.grad is not None
            assert gradient is not None
            found += [loss.detach(), hits, losses.detach(), x.grad, gradient.clone()]
            head.numbers().grad = None
        return found

    kept = told(Head(weight()))
    monkeypatch.setattr(Head, "_keeps", lambda *_: False)
    monkeypatch.setattr(Head, "_gradient_room", lambda _: None)
    assert all(torch.equal(a, b) for a, b in zip(kept, told(Head(weight())), strict=True))
