"""API keys, their roles, their projects and their limits: the records, and the rules about them.

What it does: names roles and what one includes, resolves a key's own limits over the server's, hashes and masks keys. What it
does not: store keys (``storage/keys.py``), read requests (``api/auth.py``), say which route needs which role (``api/access.py``).
Called by those three and by the routes.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_PROJECT = "proj_default"
"""The project of the first key, and of everything that was there before there were projects."""

_MASKED_CHARACTERS = 20


class Role(StrEnum):
    """What a key may do. Each role may do all that the ones before it may."""

    READ_ONLY = "read-only"
    """Look at what its project has; change nothing and generate nothing."""
    MEMBER = "member"
    """Work: files, jobs, models, answers, all within its project."""
    ADMIN = "admin"
    """Everything, the affairs of the whole server included: keys, projects, aliases, webhooks, permissions of checkpoints."""

    def includes(self, needed: "Role") -> bool:
        """True when a key of this role may do what needs ``needed``."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLimits:
    """A key's own limits. None: the server's setting of the same name holds; 0: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_generations: int | None = None
    jobs_per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that hold for a key. 0: no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_generations: int = 0
    jobs_per_day: int = 0

    def overridden(self, own: OwnLimits) -> "Limits":
        """These limits, where the key has none of its own."""

        def chosen(mine: int | None, servers: int) -> int:
            return servers if mine is None else mine

        return Limits(
            requests_per_minute=chosen(own.requests_per_minute, self.requests_per_minute),
            tokens_per_minute=chosen(own.tokens_per_minute, self.tokens_per_minute),
            concurrent_generations=chosen(own.concurrent_generations, self.concurrent_generations),
            jobs_per_day=chosen(own.jobs_per_day, self.jobs_per_day),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Whose files, jobs, models and answers something is. Projects do not see each other's."""

    id: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: never the key itself."""

    id: str
    name: str
    role: Role
    project_id: str
    sha256: str
    """Of the key, in hexadecimal: what a request's key is found by."""
    redacted: str
    """Enough of the key to recognise it by."""
    created_at: int
    created_by: str
    """Id of the key that made it."""
    revoked_at: int | None = None
    limits: OwnLimits = OwnLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose request it is, as its key says."""

    key_id: str
    role: Role
    project_id: str
    limits: Limits = Limits()


def key_sha256(key: str) -> str:
    """What is kept of a key. A plain hash is enough: a key that we made has 238 random bits, so nobody guesses it from its hash."""
    # A header may hold bytes that are no text; no key of ours has any, so they only have to be hashed without an error.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def first_key_id(key: str) -> str:
    """A name for the key in the data directory's file, which has no row: the start of its hash. It does not tell the key."""
    return key_sha256(key)[:16]


def masked(key: str) -> str:
    """A key as answers may show it: first and last characters, nothing at all of a short one."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) >= _MASKED_CHARACTERS else "*" * len(key)
