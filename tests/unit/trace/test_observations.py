"""Each rule of the table, the order among them, and that a sentence carries its numbers."""

import dataclasses
from collections.abc import Sequence

import pytest

from luthier.trace.events import BaseMeasured, EpochDone, StepDone
from luthier.trace.observations import RULES, observe, rule_for
from tests.support.trace_logs import epoch, step

BASE = BaseMeasured(loss=3.9, accuracy=0.39, held_out=True)
NAN = float("nan")


def rows(*pairs: tuple[float, float | None], accuracy: float = 0.7) -> list[EpochDone]:
    return [epoch(i, train, valid, n=len(pairs), accuracy=accuracy) for i, (train, valid) in enumerate(pairs, 1)]


def losses(*values: float, epoch_number: int = 1) -> list[StepDone]:
    return [step(i, value, epoch=epoch_number, total=99) for i, value in enumerate(values, 1)]


def test_the_table_is_in_the_order_of_the_design() -> None:
    names = [rule.name for rule in RULES]
    assert names == [
        "not_finite",
        "base_knows",
        "spike",
        "held_out_rises",
        "best_held_out",
        "fast",
        "flat",
        "memorised",
        "no_held_out",
        "changes",
    ]


CASES = [
    ("not_finite", rows((NAN, 1.0)), BASE, [], ["not a finite number"]),
    ("not_finite", rows((1.0, float("inf"))), BASE, [], ["not a finite number"]),
    ("not_finite", rows((1.0, 1.0)), BASE, losses(1.0, NAN), ["step 2"]),
    ("not_finite", rows((NAN, None), (1.0, None)), None, [], ["not a finite number"]),
    ("base_knows", rows((0.2, 0.2)), BaseMeasured(loss=0.21, accuracy=0.95, held_out=True), [], ["0.21", "0.95"]),
    ("spike", rows((1.0, 1.0)), BASE, losses(1.0, 1.0, 1.0, 1.0, 9.0, 1.0), ["9.00", "step 5", "1.00"]),
    ("held_out_rises", rows((1.5, 1.00), (0.5, 0.96), (0.3, 1.08)), BASE, [], ["1.08", "0.96 in epoch 2", "0.50 to 0.30"]),
    ("best_held_out", rows((1.5, 1.2), (0.5, 0.96)), BASE, [], ["0.960", "1.200 in epoch 1", "1.50 -> 0.50"]),
    ("fast", rows((1.5, 1.2)), BASE, [], ["held-out loss 1.20", "3.90 in the base", "0.70"]),
    ("fast", rows((1.5, None), (0.5, None)), None, [], ["train loss 0.50", "1.50 in epoch 1"]),
    ("fast", rows((1.5, None)), BaseMeasured(loss=3.0, accuracy=0.3, held_out=False), [], ["train loss 1.50", "3.00 in the base"]),
    ("flat", rows((0.500, None), (0.499, None)), None, [], ["0.500 -> 0.499"]),
    ("memorised", rows((0.04, None), (0.03, None), accuracy=0.995), None, [], ["0.030", "0.995"]),
    ("no_held_out", rows((1.5, None)), None, [], ["1.50", "no held-out data"]),
    ("no_held_out", rows((1.0, None), (0.9, None)), None, [], ["1.00 -> 0.90", "no held-out data"]),
    ("changes", rows((1.0, 1.0)), None, [], ["1.00"]),
    ("changes", rows((1.0, 1.00), (0.9, 1.005)), None, [], ["1.00 -> 0.90", "1.00 -> 1.00"]),
]


@pytest.mark.parametrize(("name", "epochs", "base", "steps", "numbers"), CASES)
def test_rule(name: str, epochs: Sequence[EpochDone], base: BaseMeasured | None, steps: Sequence[StepDone], numbers: Sequence[str]) -> None:
    # "memorised" needs an epoch that is neither fast nor flat: 0.04 -> 0.03 is a fall of 25 %.
    assert rule_for(epochs, base=base, steps=steps)[0].name == name
    sentence = observe(epochs, base=base, steps=steps)
    assert "\n" not in sentence
    for number in numbers:
        assert number in sentence


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} == {rule.name for rule in RULES}


def test_the_base_speaks_in_the_first_epoch_only() -> None:
    known = BaseMeasured(loss=0.1, accuracy=0.99, held_out=True)
    assert rule_for(rows((0.2, 0.2), (0.1, 0.1)), base=known)[0].name == "best_held_out"


def test_a_spike_of_another_epoch_is_not_told_again() -> None:
    spiky = losses(1.0, 1.0, 1.0, 1.0, 9.0)
    assert rule_for(rows((1.0, 1.0), (0.9, 0.9)), base=BASE, steps=spiky)[0].name == "best_held_out"


def test_scatter_of_small_batches_is_no_spike() -> None:
    steps = losses(4.0, 1.2, 0.4, 0.3, 0.9, 0.4, 0.4, 1.1, 0.3, 0.5, 1.76)
    assert rule_for(rows((1.0, 1.0)), base=BASE, steps=steps)[0].name == "fast"


def test_one_hard_row_of_few_tokens_is_no_spike_but_many_are() -> None:
    def epoch_of(*values: float) -> list[StepDone]:
        return [dataclasses.replace(step(n, value, total=99), num_tokens=8, lines=(n,)) for n, value in enumerate(values, 1)]

    calm = [1.0] * 40
    assert rule_for(rows((1.0, 1.0)), base=BASE, steps=epoch_of(*calm, 9.0, *calm))[0].name == "fast"
    sentence = observe(rows((1.0, 1.0)), base=BASE, steps=epoch_of(*calm, *[9.0] * 8))
    assert "jumped to 9.00 at steps 41 to 45 (before it 1.00): look at lines 41, 42, 43, 44, 45" in sentence


def test_a_spike_goes_beyond_the_start() -> None:
    calm = losses(4.0, 0.3, 0.3, 0.3, 0.3)
    for loss, name in ((3.9, "best_held_out"), (4.1, "spike")):
        late = [step(n, value, epoch=2, total=99) for n, value in enumerate((0.3, 0.3, 0.3, loss), 6)]
        assert rule_for(rows((1.0, 1.0), (0.9, 0.9)), base=BASE, steps=[*calm, *late])[0].name == name


def test_a_tiny_rise_is_no_rise() -> None:
    assert rule_for(rows((1.0, 0.330), (0.9, 0.331)), base=BASE)[0].name == "changes"


def test_a_rise_while_train_loss_rises_too_is_not_overfitting() -> None:
    assert rule_for(rows((1.0, 0.5), (1.1, 0.9)), base=BASE)[0].name == "changes"


def test_the_reference_run_reads_well() -> None:
    table = rows((1.84, 1.10), (0.57, 0.96), (0.39, 0.97), (0.29, 1.00), (0.24, 1.00))
    names = [rule_for(table[: i + 1], base=BASE)[0].name for i in range(5)]
    assert names == ["fast", "best_held_out", "held_out_rises", "held_out_rises", "held_out_rises"]
