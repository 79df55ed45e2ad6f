"""The loss is summed over trained tokens, the same however a batch is cut or padded."""

from dataclasses import replace

import pytest
import torch

from luthier.core.tokens import Rendered, TokenizedExample
from luthier.preprocessing.batches import collate
from luthier.training.evaluate import measure, spread
from luthier.training.sft import micro_batches, sft_sums
from tests.support.trainable_model import TrainableModel, prepared


def _by_hand(model: TrainableModel, example: TokenizedExample) -> tuple[float, int]:
    ids = torch.from_numpy(example.rendered.ids_T)
    loss, hits = 0.0, 0
    for at, weight in enumerate(example.rendered.weights_T):
        if weight:
            logits = model.logits_at(ids[None], torch.tensor([len(ids)]), torch.tensor([0]), torch.tensor([at - 1]))[0]
            loss += float(weight) * float(torch.logsumexp(logits, 0) - logits[ids[at]])
            hits += int(logits.argmax()) == int(ids[at])
    return loss, hits


def test_sums_equal_those_made_by_hand_token_by_token():
    model, source = TrainableModel(), prepared(9)
    sums = sft_sums(model, collate(source.examples))
    losses, hits = zip(*(_by_hand(model, example) for example in source.examples), strict=True)
    assert float(sums.loss) == pytest.approx(sum(losses), rel=1e-5)
    assert (sums.num_tokens, int(sums.num_correct)) == (18, sum(hits))


def test_a_tokens_weight_scales_its_loss():
    model, source = TrainableModel(), prepared(1)
    example = source.examples[0]
    halved = replace(example, rendered=Rendered(ids_T=example.rendered.ids_T, weights_T=example.rendered.weights_T * 0.5))
    whole, half = sft_sums(model, collate([example])), sft_sums(model, collate([halved]))
    assert float(half.loss) == pytest.approx(float(whole.loss) / 2)
    assert half.num_tokens == whole.num_tokens


def test_micro_batches_keep_every_example_and_bound_size():
    source = prepared(50)
    facts = replace(TrainableModel().facts, num_layers=100, hidden_size=6_000)
    groups = micro_batches(range(50), source.examples, facts)
    assert [index for group in groups for index in group] == list(range(50))
    most = (2 << 30) // (100 * 6_000 * 160)
    assert len(groups) > 1
    assert all(len(g) * max(source.examples[i].num_tokens for i in g) <= most for g in groups)


def test_micro_batches_bound_the_logits_and_let_a_huge_row_go_alone():
    source = prepared(5)
    facts = replace(TrainableModel().facts, vocab_size=1 << 23)
    assert micro_batches(range(5), source.examples, facts) == [[0, 1], [2, 3], [4]]
    assert micro_batches(range(2), source.examples, replace(facts, vocab_size=1 << 26)) == [[0], [1]]


def test_measuring_in_one_go_or_piece_by_piece_gives_the_same_means():
    model, source = TrainableModel(), prepared(40)
    whole = measure(model, source)
    parts = [measure(model, source, [index]) for index in range(40)]
    assert whole.loss == pytest.approx(sum(p.loss * p.num_tokens for p in parts) / whole.num_tokens, rel=1e-5)
    assert whole.accuracy == pytest.approx(sum(p.accuracy * p.num_tokens for p in parts) / whole.num_tokens)
    assert whole.num_tokens == 80


def test_measuring_leaves_no_gradient_and_the_mode_as_it_was():
    model, source = TrainableModel(), prepared(4)
    model.all_parameters()[0].requires_grad_(True)
    model.module.train()
    measure(model, source)
    assert model.module.training
    assert model.all_parameters()[0].grad is None


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (256, 256, list(range(256)))])
def test_a_spread_is_even_and_bounded(count, most, expected):
    assert spread(count, most) == expected
