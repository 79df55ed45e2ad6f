"""The loop: takes sequences, runs them together, tells their callers.

One thread owns every tensor of the process. Other threads hand it work with ``call``; long work that is no generation
(scoring) is an iterator that the loop advances by one piece between two decode steps, so that answers go on.
What it does not: load models or know files (``deployment``). Called by ``deployment/host.py``; tests call ``step``.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import torch

from luthier.core.engine_messages import Failed
from luthier.core.generation import FinishReason
from luthier.engine.runner import Runner, slots_for
from luthier.engine.sampler import pick_tokens
from luthier.engine.scheduler import Placed, Scheduler
from luthier.engine.sequence import Sequence
from luthier.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

BROKEN = Failed(kind="Unavailable", message="The server had an error while processing your request.")
DIVERGED = Failed(
    kind="Unavailable", message="The model answers with numbers that are not finite: its weights are damaged or diverged in training."
)
STOPPING = Failed(kind="Unavailable", message="The server is shutting down.")


class Engine:
    """Runs sequences and background work on one thread. Only ``call``, ``start`` and ``stop`` may be called from others."""

    def __init__(self, runner: Runner, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._clock = clock
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._background: deque[Iterator[None]] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[], None]) -> None:
        """Run ``work`` on the engine's thread before its next step; it must handle its own errors."""
        self._inbox.put(work)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self.run, name="engine", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """End the thread after its current step; sequences still there fail as unavailable."""
        self.call(self._stop)
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    @property
    def num_active(self) -> int:
        """Generations waiting and running."""
        return self._scheduler.num_active

    def now(self) -> float:
        """The engine's clock, seconds."""
        return self._clock()

    def attach(self, key: str, model: LanguageModel, *, max_length: int) -> None:
        """Make a model runnable for sequences of at most ``max_length`` tokens."""
        num_slots = slots_for(model, max_length)
        self._runner.attach(key, model, num_slots=num_slots, max_length=max_length)
        self._scheduler.add_model(key, num_slots)

    def detach(self, key: str) -> None:
        """Forget a model; none of its sequences may be under way."""
        self._scheduler.remove_model(key)
        self._runner.detach(key)

    def add(self, sequence: Sequence) -> None:
        """Take a sequence.

        Raises:
            TooManyRequests: too many are waiting.
        """
        if sequence.max_new_tokens <= 0:
            sequence.start()
            sequence.finish(FinishReason.LENGTH, self._clock())
            return
        self._scheduler.enqueue(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Drop a sequence whose caller went away; does nothing once it has ended."""
        if not sequence.finished:
            self._leave(sequence)
            sequence.finish(FinishReason.ABORTED, self._clock())

    def add_background(self, work: Iterator[None]) -> None:
        """Advance ``work`` by one item per turn until it ends; it must handle its own errors."""
        self._background.append(work)

    def run(self) -> None:
        """The thread's loop: until ``stop``."""
        while not self._stopping:
            self._take_calls(wait=not self._background and not self._scheduler.num_active)
            self._advance_background()
            self.step()
        for sequence in self._scheduler.sequences():
            self._leave(sequence)
            sequence.fail(STOPPING)

    def step(self) -> None:
        """Decode one token for every running sequence, then read the prompts of newly admitted ones."""
        plan = self._scheduler.plan()
        for group in plan.groups:
            self._guarded(group, self._decode)
        for placed in plan.admitted:
            self._guarded((placed,), self._prefill)

    def _stop(self) -> None:
        self._stopping = True

    def _take_calls(self, *, wait: bool) -> None:
        try:
            while True:
                work = self._inbox.get(block=wait)
                wait = False
                try:
                    work()
                except Exception:
                    logger.exception("work handed to the engine failed")
        except queue.Empty:
            return

    def _advance_background(self) -> None:
        if not self._background:
            return
        work = self._background.popleft()
        try:
            next(work)
        except StopIteration:
            return
        except Exception:
            logger.exception("background work failed")
            return
        self._background.append(work)

    def _guarded(self, group: tuple[Placed, ...], run: Callable[[tuple[Placed, ...]], None]) -> None:
        """A fault of one batch ends its sequences and nothing else."""
        try:
            run(group)
        except Exception:
            logger.exception("a batch of %d failed", len(group))
            for placed in group:
                placed.sequence.fail(BROKEN)
        for placed in group:
            if placed.sequence.finished:
                self._leave(placed.sequence)

    def _prefill(self, group: tuple[Placed, ...]) -> None:
        (placed,) = group
        sequence = placed.sequence
        sequence.start()
        logits_1V = self._runner.prefill(sequence.lane, placed.slot, sequence.prompt_ids)
        self._accept([sequence], logits_1V)

    def _decode(self, group: tuple[Placed, ...]) -> None:
        lane = group[0].sequence.lane
        logits_BV = self._runner.decode(lane, [p.slot for p in group], [p.sequence.last_id for p in group])
        self._accept([p.sequence for p in group], logits_BV)

    def _accept(self, sequences: list[Sequence], logits_BV: torch.Tensor) -> None:
        picks = pick_tokens(logits_BV, [s.chooser for s in sequences])
        now = self._clock()
        for sequence, pick in zip(sequences, picks, strict=True):
            if pick is None:
                sequence.fail(DIVERGED)
            else:
                sequence.accept(pick, now)

    def _leave(self, sequence: Sequence) -> None:
        slot = self._scheduler.remove(sequence)
        if slot is not None:
            self._runner.free(sequence.lane, slot)
