"""What the stages say of themselves: nothing but what the run measured."""

import dataclasses

from luthier.core.stage import Stage
from luthier.trace.tracer import Tracer
from luthier.worker.narration import sample_losses
from tests.support.trace_logs import epoch, step


def test_the_sample_losses_of_a_resumed_run_are_those_of_all_its_epochs() -> None:
    log = []
    first, second = Tracer("job", [log.append]), Tracer("job", [log.append], attempt=2)
    for tracer, number, loss in ((first, 1, 0.9), (first, 2, 0.7), (second, 2, 0.6), (second, 3, 0.5)):
        tracer.emit(Stage.TRAINING, step(number))
        tracer.emit(Stage.TRAINING, dataclasses.replace(epoch(number, 1.0, None), sample_loss=loss))
    second.emit(Stage.TRAINING, dataclasses.replace(epoch(4, 1.0, None), sample_loss=None))
    assert sample_losses(log) == [{"epoch": 1.0, "loss": 0.9}, {"epoch": 2.0, "loss": 0.6}, {"epoch": 3.0, "loss": 0.5}]
