"""What the stages say of themselves: nothing but what the run measured."""

import dataclasses

from luthier.core.stage import Stage
from luthier.trace.tracer import Tracer
from luthier.worker.narration import sample_losses, shown_token
from tests.support.trace_logs import epoch, step


def test_the_sample_losses_of_a_resumed_run_are_those_of_all_its_epochs() -> None:
    log = []
    first, second = Tracer("job", [log.append]), Tracer("job", [log.append], attempt=2)
    for tracer, number, loss in ((first, 1, 0.9), (first, 2, 0.7), (second, 2, 0.6), (second, 3, 0.5)):
        tracer.emit(Stage.TRAINING, step(number))
        tracer.emit(Stage.TRAINING, dataclasses.replace(epoch(number, 1.0, None), sample_loss=loss))
    second.emit(Stage.TRAINING, dataclasses.replace(epoch(4, 1.0, None), sample_loss=None))
    assert sample_losses(log) == [{"epoch": 1.0, "loss": 0.9}, {"epoch": 2.0, "loss": 0.6}, {"epoch": 3.0, "loss": 0.5}]


def test_a_token_that_is_a_part_of_a_character_keeps_the_bytes_that_tell_it() -> None:
    token = {"id": 7, "text": " mot", "bytes": [32, 109, 111, 116], "kind": "trained", "role": "assistant", "message": 1}
    assert shown_token(token) == {"text": " mot", "kind": "trained", "role": "assistant"}
    assert shown_token({**token, "text": "\ufffd", "bytes": [0xD8]})["bytes"] == [0xD8]
