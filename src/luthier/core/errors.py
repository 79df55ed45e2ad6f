"""The one error tree. Errors know nothing of HTTP; ``api/errors.py`` holds the table from class to status.

::

    LuthierError
    ├── InvalidRequest        the caller asked for something malformed or impossible
    ├── AuthenticationFailed  no key, or a wrong one
    ├── PermissionRefused     a right key that may not do this
    ├── NotFound              no such thing, or no longer
    ├── TooManyRequests       a queue or rate limit is full
    ├── Unavailable           not now: starting, draining, engine gone
    ├── StorageFull           the disk's reserve is reached
    ├── JobFailure            a job must end as failed, with this wording in ``job.error``
    └── StaleLease            a write quoted a fence number that is no longer the job's

Everything a user did wrong is one of these; a fault of ours is an ``AssertionError`` or whatever Python raises.
"""


class LuthierError(Exception):
    """Something went wrong that a caller can be told about."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidRequest(LuthierError):
    """The request is malformed or asks for something impossible."""


class AuthenticationFailed(LuthierError):
    """The key is missing or wrong."""


class PermissionRefused(LuthierError):
    """The key is right, but this may not be done."""


class NotFound(LuthierError):
    """The thing asked for does not exist, or no longer."""


class TooManyRequests(LuthierError):
    """A queue or a limit is full."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        limited: str = "requests",
        retry_after: float | None = None,
        pointless: bool = False,
    ) -> None:
        """Besides what every error has: what is limited, in how many seconds it may go on, and whether a retry before that is pointless."""
        super().__init__(message, code=code, param=param)
        self.limited = limited
        self.retry_after = retry_after
        self.pointless = pointless


class Unavailable(LuthierError):
    """The service cannot answer now: it is starting, draining, or its engine is gone."""


class StorageFull(LuthierError):
    """The disk has no room left above its reserve."""


class JobFailure(LuthierError):
    """A job must end as failed; the wording goes into ``job.error``."""


class StaleLease(LuthierError):
    """A write quoted a fence number that is no longer the job's: another runner owns it."""
