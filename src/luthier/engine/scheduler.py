"""Decides who runs: first come, first served, while a model has free slots; one decode batch per lane.

What it does: keeps the waiting line and the slots of every model. What it does not: touch a tensor, run anything, talk
to callers. Called by ``engine.py`` only, on its thread.
"""

from collections import deque
from dataclasses import dataclass

from luthier.core.errors import TooManyRequests
from luthier.engine.sequence import Lane, Sequence

MAX_WAITING = 1024
# Prompt tokens read between two decode steps: enough to admit a burst quickly, few enough that running answers go on.
MAX_PREFILL_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Placed:
    """A sequence with its slot in its model's cache."""

    sequence: Sequence
    slot: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: decode each group by one token, then read the prompts of the admitted."""

    groups: tuple[tuple[Placed, ...], ...]
    admitted: tuple[Placed, ...]


class Scheduler:
    """The waiting line and the places in the batch."""

    def __init__(self, *, max_waiting: int = MAX_WAITING, max_prefill_tokens: int = MAX_PREFILL_TOKENS) -> None:
        self._max_waiting = max_waiting
        self._max_prefill_tokens = max_prefill_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: dict[Sequence, int] = {}
        self._free: dict[str, list[int]] = {}

    @property
    def num_active(self) -> int:
        """Sequences waiting and running."""
        return len(self._waiting) + len(self._running)

    def add_model(self, key: str, num_slots: int) -> None:
        """Open ``num_slots`` places for a model."""
        # Descending, so that pop() gives the lowest slot first.
        self._free[key] = list(range(num_slots - 1, -1, -1))

    def remove_model(self, key: str) -> None:
        """Close a model's places. No sequence of it may be waiting or running."""
        del self._free[key]

    def enqueue(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the line.

        Raises:
            TooManyRequests: the line is full.
        """
        if len(self._waiting) >= self._max_waiting:
            raise TooManyRequests(f"{len(self._waiting)} requests are waiting already. Please try again later.", code="rate_limit_exceeded")
        self._waiting.append(sequence)

    def plan(self) -> Plan:
        """The next step. Admitted sequences hold their slot from now on and decode from the step after."""
        groups: dict[Lane, list[Placed]] = {}
        for sequence, slot in self._running.items():
            groups.setdefault(sequence.lane, []).append(Placed(sequence, slot))
        return Plan(tuple(tuple(group) for group in groups.values()), self._admit())

    def remove(self, sequence: Sequence) -> int | None:
        """Take a sequence out wherever it is; the slot it held, or None."""
        slot = self._running.pop(sequence, None)
        if slot is not None:
            self._free[sequence.lane.model].append(slot)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        return slot

    def sequences(self) -> tuple[Sequence, ...]:
        """All sequences, running first."""
        return (*self._running, *self._waiting)

    def _admit(self) -> tuple[Placed, ...]:
        admitted: list[Placed] = []
        still_waiting: deque[Sequence] = deque()
        budget = self._max_prefill_tokens
        blocked: set[str] = set()
        while self._waiting:
            sequence = self._waiting.popleft()
            model = sequence.lane.model
            # The first one always fits, however long its prompt is; a full model holds up only its own line.
            fits = not admitted or len(sequence.prompt_ids) <= budget
            if model in blocked or not self._free[model] or not fits:
                blocked.add(model)
                still_waiting.append(sequence)
                continue
            slot = self._free[model].pop()
            self._running[sequence] = slot
            budget -= len(sequence.prompt_ids)
            admitted.append(Placed(sequence, slot))
        self._waiting = still_waiting
        return tuple(admitted)
