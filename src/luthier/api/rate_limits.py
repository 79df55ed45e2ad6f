"""Rates: requests and tokens per minute, generations at once, and wrong keys. Counted in this process's memory.

What it does: admits a generation or refuses it in OpenAI's words, holds its place until its answer is over, counts its tokens as
they come, and tells all of it in ``x-ratelimit-*`` headers. What it does not: jobs per day (``storage/retries.py`` counts them in
the database). Built by ``deps.py``, which also gives routes their turn; a restart forgets everything here, and each API process
counts for itself.

A rate is a bucket that refills all the time: a full minute's allowance may be used at once, and comes back within a minute.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.core.engine_messages import EngineReply, Finished, Started, TokenChunk
from luthier.core.errors import TooManyRequests
from luthier.core.keys import Limits

MINUTE = 60.0
_BUSY_SECONDS = 1.0
# Clocks count in binary fractions: whoever waited as told must not be sent away for the last bit.
_ROUNDING_SECONDS = 1e-4
_MAX_ADDRESSES = 4096
_EXCEEDED = "rate_limit_exceeded"


def duration_text(seconds: float) -> str:
    """Seconds as upstream's headers show them: ``120ms``, ``1s``, ``6m0s``. Rounded up: waiting that long is enough."""
    milliseconds = max(0, math.ceil(seconds * 1000 - 1e-6))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole, rest = divmod(milliseconds, 1000)
    minutes, part = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{part}.{rest:03d}".rstrip("0") if rest else str(part)
    return f"{hours}h{minutes}m{text}s" if hours else f"{minutes}m{text}s" if minutes else f"{text}s"


class Bucket:
    """An allowance per minute that refills evenly. It may be overdrawn: a token is known to be used only afterwards."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What is left at ``now``; negative while overdrawn."""
        passed = max(0.0, now - self._at)
        self._level = min(float(self.per_minute), self._level + passed * self.per_minute / MINUTE)
        self._at = max(self._at, now)
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Use some of it, whether it is there or not."""
        self._level = self.level(now) - amount

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until this much is there."""
        seconds = (amount - self.level(now)) * MINUTE / self.per_minute
        return seconds if seconds > _ROUNDING_SECONDS else 0.0

    def resize(self, per_minute: int, now: float) -> None:
        """Another allowance from now on; what was used of the old one stays used."""
        self._level = self.level(now) + per_minute - self.per_minute
        self.per_minute = per_minute


@dataclass(slots=True)
class _Account:
    """What one key has used."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    running: int = 0


def _resized(bucket: Bucket | None, per_minute: int, now: float) -> Bucket | None:
    if not per_minute:
        return None
    if bucket is None:
        return Bucket(per_minute, now)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket


@dataclass(slots=True)
class Turn:
    """One generation that was admitted: its place among those under way, and the tokens that it uses."""

    _account: _Account
    _clock: Callable[[], float]
    _prompts: dict[int, int] = field(default_factory=dict)
    _answers: dict[int, int] = field(default_factory=dict)
    _counted: int = 0
    _ended: bool = False

    def take(self, index: int, reply: EngineReply, per_prompt: int = 1) -> None:
        """Count a reply of the engine: a prompt once however many answers it has, an answer's tokens as they come."""
        if isinstance(reply, Started):
            self._prompts[index // per_prompt] = reply.prompt_tokens
        elif isinstance(reply, TokenChunk):
            self._answers[index] = self._answers.get(index, 0) + max(1, len(reply.tokens))
        elif isinstance(reply, Finished):
            self._prompts[index // per_prompt] = reply.prompt_tokens
            self._answers[index] = reply.completion_tokens
        total = sum(self._prompts.values()) + sum(self._answers.values())
        if self._account.tokens is not None:
            self._account.tokens.take(total - self._counted, self._clock())
        self._counted = total

    def end(self) -> None:
        """Give the place back; again changes nothing."""
        if not self._ended:
            self._ended = True
            self._account.running -= 1


def _headers(account: _Account, now: float) -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, bucket in (("requests", account.requests), ("tokens", account.tokens)):
        if bucket is not None:
            shown[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
            shown[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level(now) + 1e-6)))
            shown[f"x-ratelimit-reset-{name}"] = duration_text(bucket.wait_for(bucket.per_minute, now))
    return shown


class RateLimits:
    """The rates of every key. Used from the event loop alone, so that a check and what follows from it are one step."""

    def __init__(self, organization: str, clock: Callable[[], float]) -> None:
        self._organization = organization
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def admit(self, key_id: str, limits: Limits) -> Turn:
        """Let a generation begin.

        Raises:
            TooManyRequests: too many in this minute, too many tokens in it, or too many at once. Nothing is counted then.
        """
        now = self._clock()
        account = self._account(key_id, limits, now)
        requests, tokens = account.requests, account.tokens
        if limits.concurrent_generations and account.running >= limits.concurrent_generations:
            used = f"Limit {limits.concurrent_generations}, Used {account.running}, Requested 1."
            raise self._refusal("concurrent requests", used, "requests", _BUSY_SECONDS)
        if requests is not None and (wait := requests.wait_for(1, now)) > 0:
            raise self._refusal("requests per min (RPM)", _used(requests, now, 1), "requests", wait)
        if tokens is not None and (wait := tokens.wait_for(1, now)) > 0:
            raise self._refusal("tokens per min (TPM)", _used(tokens, now, 1), "tokens", wait)
        if requests is not None:
            requests.take(1, now)
        account.running += 1
        return Turn(account, self._clock)

    def headers(self, key_id: str, limits: Limits) -> dict[str, str]:
        """``x-ratelimit-*`` as they are now; none for what has no limit."""
        now = self._clock()
        return _headers(self._account(key_id, limits, now), now)

    def _account(self, key_id: str, limits: Limits, now: float) -> _Account:
        account = self._accounts.setdefault(key_id, _Account())
        account.requests = _resized(account.requests, limits.requests_per_minute, now)
        account.tokens = _resized(account.tokens, limits.tokens_per_minute, now)
        return account

    def _refusal(self, what: str, used: str, limited: str, wait: float) -> TooManyRequests:
        message = (
            f"Rate limit reached for this API key in organization org-{self._organization} on {what}: {used} "
            f"Please try again in {duration_text(wait)}."
        )
        return TooManyRequests(message, code=_EXCEEDED, limited=limited, retry_after=wait)


def _used(bucket: Bucket, now: float, requested: int) -> str:
    return f"Limit {bucket.per_minute}, Used {bucket.per_minute - math.floor(bucket.level(now))}, Requested {requested}."


class BadKeys:
    """Wrong keys by the address that tried them, for a minute. One key tried again and again is one: that is a script, not a search.

    Args:
        per_minute: how many different ones an address may try; 0: any number.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._tried: dict[str, dict[str, float]] = {}

    def check(self, address: str) -> None:
        """Refuse an address that has tried too many, whatever it brings now: a right key must not show as one.

        Raises:
            TooManyRequests: until the first of them is a minute ago.
        """
        tried = self._tried.get(address)
        if tried is None or not self._per_minute:
            return
        now = self._clock()
        recent = {sha256: at for sha256, at in tried.items() if abs(now - at) < MINUTE}
        if len(recent) < self._per_minute:
            return
        wait = sorted(recent.values())[len(recent) - self._per_minute] + MINUTE - now
        message = f"Too many incorrect API keys were tried from your address. Please try again in {duration_text(wait)}."
        raise TooManyRequests(message, code=_EXCEEDED, retry_after=wait)

    def note(self, address: str, sha256: str) -> None:
        """A wrong key was tried."""
        if not self._per_minute:
            return
        now = self._clock()
        tried = {key: at for key, at in self._tried.pop(address, {}).items() if abs(now - at) < MINUTE}
        # The newest address stands last, and the ones that have been silent the longest are forgotten first.
        self._tried[address] = {**tried, sha256: tried.get(sha256, now)}
        while len(self._tried) > _MAX_ADDRESSES:
            del self._tried[next(iter(self._tried))]
