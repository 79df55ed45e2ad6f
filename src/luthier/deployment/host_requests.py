"""Answers each kind of request of the engine host. Everything here runs on the engine's thread.

What it does: leases models, starts generations and scoring, turns errors into ``Failed``. What it does not: sockets
(``host_server.py``), loading (``model_cache.py``). Called by ``host_server.py``.
"""

import logging
import math
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from luthier.core import errors
from luthier.core.conversation import conversation_of
from luthier.core.engine_messages import (
    Done,
    EngineReply,
    EngineRequest,
    Failed,
    Finished,
    Generate,
    HostStatus,
    Load,
    Loaded,
    PredictionTrace,
    Render,
    RenderedTokens,
    Score,
    Scores,
    Status,
    TracePrediction,
    Unload,
    is_last,
)
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.generation import SamplingParams
from luthier.deployment.generation import build_sequence, own_positions
from luthier.deployment.model_cache import Lease, ModelCache
from luthier.deployment.scoring import score, score_prompt
from luthier.deployment.tracing import traced
from luthier.engine.engine import BROKEN, DIVERGED, Engine
from luthier.engine.sampler import Pick
from luthier.engine.sequence import Emit, Sequence, named

logger = logging.getLogger(__name__)

_WARM_PROMPT = "Hello"


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """One request under way: where its replies go, and what to drop when its caller goes away."""

    emit: Emit
    arrived_at: float = field(default_factory=time.monotonic)
    sequence: Sequence | None = None
    cancelled: bool = False


class Desk:
    """Carries out requests; each ends with exactly one last reply, unless its caller has gone."""

    def __init__(self, engine: Engine, cache: ModelCache, *, num_threads: int) -> None:
        self._engine = engine
        self._cache = cache
        self._num_threads = num_threads
        self._started_at = time.monotonic()

    def serve(self, request: EngineRequest, ticket: Ticket) -> None:
        """Begin a request; replies come through ``ticket.emit``, at once or later."""
        if not ticket.cancelled:
            self._answering(ticket.emit, lambda: self._begin(request, ticket))

    def cancel(self, ticket: Ticket) -> None:
        """The caller is gone: stop what runs for it."""
        ticket.cancelled = True
        if ticket.sequence is not None:
            self._engine.abort(ticket.sequence)

    def _answering(self, emit: Emit, work: Callable[[], None]) -> None:
        try:
            work()
        except LuthierError as error:
            emit(failure_of(error))
        except Exception:
            logger.exception("a request failed")
            emit(BROKEN)

    def _begin(self, request: EngineRequest, ticket: Ticket) -> None:
        if isinstance(request, Generate):
            self._generate(request, ticket)
        elif isinstance(request, Load):
            self._load(request, ticket)
        elif isinstance(request, Unload):
            self._cache.unload(request.name)
            ticket.emit(Done())
        elif isinstance(request, Render):
            ticket.emit(self._rendered(request))
        elif isinstance(request, Score):
            self._engine.add_background(self._scoring(request, ticket))
        elif isinstance(request, TracePrediction):
            self._engine.add_background(self._tracing(request, ticket))
        else:
            ticket.emit(self._status(request))

    def _generate(self, request: Generate, ticket: Ticket) -> None:
        lease = self._cache.acquire(request.target)
        try:
            emit = self._releasing(lease, ticket.emit)
            sequence = build_sequence(request, lease, emit, ticket.arrived_at)
            if sequence.echo is not None and request.sampling.top_logprobs is not None:
                self._engine.add_background(self._scored_first(request, lease, sequence))
            else:
                self._engine.add(sequence)
            ticket.sequence = sequence
        except BaseException:
            self._cache.release(lease)
            raise

    def _releasing(self, lease: Lease, emit: Emit) -> Emit:
        """``emit``, giving the lease back after the last reply."""

        def emit_and_release(reply: EngineReply) -> None:
            emit(reply)
            if is_last(reply):
                # Not at once: the engine still frees the sequence's slot, which needs the model.
                self._engine.call(lambda: self._cache.release(lease))

        return emit_and_release

    def _scored_first(self, request: Generate, lease: Lease, sequence: Sequence) -> Iterator[None]:
        """Score the prompt in pieces, then let the engine answer. An abort finishes the sequence, which ends this too."""
        try:
            picks: list[Pick] = []
            for piece in score_prompt(lease.model, lease.lane.adapter, sequence.prompt_ids, request.sampling.top_logprobs or 0):
                picks += piece
                yield
                if sequence.finished:
                    return
            if any(pick.logprob is None or math.isnan(pick.logprob) for pick in picks):
                sequence.fail(DIVERGED)
                return
            assert sequence.echo is not None
            tokens = tuple(named(picks[t], sequence.names) for t in own_positions(request, lease.renderer))
            sequence.echo = replace(sequence.echo, tokens=tokens)
            self._engine.add(sequence)
        except LuthierError as error:
            sequence.fail(failure_of(error))
        except Exception:
            logger.exception("scoring a prompt failed")
            sequence.fail(BROKEN)

    def _load(self, request: Load, ticket: Ticket) -> None:
        """Load, then let the engine generate one token like for any caller; ``Loaded`` is its end."""
        lease = self._cache.acquire(request.target)
        size = lease.bytes

        def emit(reply: EngineReply) -> None:
            if isinstance(reply, Finished):
                ticket.emit(Loaded(bytes=size, seconds=time.monotonic() - ticket.arrived_at))
            elif isinstance(reply, Failed):
                ticket.emit(reply)

        probe = Generate(target=request.target, sampling=SamplingParams(temperature=0.0, max_tokens=1), prompt=_WARM_PROMPT)
        try:
            sequence = build_sequence(probe, lease, self._releasing(lease, emit), ticket.arrived_at)
            self._engine.add(sequence)
        except BaseException:
            self._cache.release(lease)
            raise

    def _rendered(self, request: Render) -> RenderedTokens:
        renderer = self._cache.renderer(request.target)
        conversation = conversation_of(request.messages, request.tools)
        render = renderer.prompt if request.add_generation_prompt else renderer.example
        rendered = render(conversation, request.target.row_format)
        return RenderedTokens(tokens=tuple(renderer.describe(rendered)))

    def _scoring(self, request: Score, ticket: Ticket) -> Iterator[None]:
        try:
            if request.max_length < 1:
                raise InvalidRequest("max_length must be at least 1.", param="max_length")
            lease = self._cache.acquire(request.target)
            try:
                # The model's own limit, not the serving limit: scores are compared with training's losses.
                max_length = min(request.max_length, lease.model.facts.max_length)
                rows = (lease.renderer.example(conversation_of(c), request.target.row_format) for c in request.conversations)
                pieces = score(lease.model, lease.lane.adapter, rows, max_length)
                for entries in pieces:
                    if ticket.cancelled:
                        return
                    if entries is None:
                        yield
                    else:
                        ticket.emit(Scores(entries=tuple(asdict(entry) for entry in entries)))
            finally:
                self._cache.release(lease)
        except LuthierError as error:
            ticket.emit(failure_of(error))
        except Exception:
            logger.exception("scoring failed")
            ticket.emit(BROKEN)

    def _tracing(self, request: TracePrediction, ticket: Ticket) -> Iterator[None]:
        leases: list[Lease] = []
        try:
            for target in (request.target, request.base):
                if target is not None:
                    leases.append(self._cache.acquire(target))
                    yield
            for trace in traced(request, leases[0], leases[1] if len(leases) > 1 else None):
                if ticket.cancelled:
                    return
                if trace is None:
                    yield
                else:
                    ticket.emit(PredictionTrace(text=trace))
        except LuthierError as error:
            ticket.emit(failure_of(error))
        except Exception:
            logger.exception("a prediction trace failed")
            ticket.emit(BROKEN)
        finally:
            for lease in leases:
                self._cache.release(lease)

    def _status(self, _: Status) -> HostStatus:
        return HostStatus(
            loaded=self._cache.loaded_names(),
            active=self._engine.num_active,
            resident_bytes=resident_bytes(),
            num_threads=self._num_threads,
            uptime_seconds=time.monotonic() - self._started_at,
        )


def failure_of(error: LuthierError) -> Failed:
    """The error as a reply, named by the class of ``core.errors`` that it is or descends from."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    return Failed(kind=kind, message=error.message, code=error.code, param=error.param)


def resident_bytes() -> int:
    """Memory of this process that is in RAM, bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
