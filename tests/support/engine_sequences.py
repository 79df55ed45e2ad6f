"""Builds engine sequences whose replies land in a list."""

from luthier.core.engine_messages import EngineReply, Failed, Finished, TokenChunk
from luthier.core.generation import SamplingParams
from luthier.engine.engine import Engine
from luthier.engine.runner import Runner
from luthier.engine.scheduler import Scheduler
from luthier.engine.sequence import Lane, Sequence
from tests.support.fake_model import FakeNames, FakeText


class Recorded:
    """A sequence with everything its caller was told."""

    def __init__(
        self,
        prompt_ids: tuple[int, ...] = (1, 2, 3),
        *,
        lane: Lane | None = None,
        sampling: SamplingParams | None = None,
        max_new_tokens: int = 8,
        stop_ids: frozenset[int] = frozenset(),
        text: FakeText | None = None,
    ) -> None:
        self.replies: list[EngineReply] = []
        self.sequence = Sequence(
            lane=lane or Lane("m"),
            prompt_ids=prompt_ids,
            sampling=sampling or SamplingParams(temperature=0.0),
            max_new_tokens=max_new_tokens,
            stop_ids=stop_ids,
            text=text or FakeText(),
            names=FakeNames(),
            emit=self.replies.append,
            created_at=0.0,
        )

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(r.text for r in self.replies if isinstance(r, TokenChunk))

    @property
    def ids(self) -> list[int]:
        """The ids that the text of ``FakeText`` shows."""
        return [int(piece) for piece in self.text.replace("<", " ").replace(">", " ").split()]

    @property
    def end(self) -> Finished | Failed:
        """The one last reply."""
        (last,) = [r for r in self.replies if isinstance(r, Finished | Failed)]
        assert self.replies[-1] is last
        return last

    @property
    def finished(self) -> Finished:
        """The end, which must be a good one."""
        assert isinstance(self.end, Finished), self.end
        return self.end


def new_engine(scheduler: Scheduler | None = None) -> Engine:
    """An engine whose steps the test makes."""
    return Engine(Runner(), scheduler or Scheduler())


def run_to_end(engine: Engine, *, max_steps: int = 1000) -> None:
    """Step until nothing is left."""
    for _ in range(max_steps):
        if not engine.num_active:
            return
        engine.step()
    raise AssertionError("the engine does not come to an end")
