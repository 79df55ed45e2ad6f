"""The loop that sends what is owed: due deliveries under leases, all endpoints at once, and again later what failed.

What it does: claims, sends, and notes the outcome; the next attempt of a failed delivery comes later each time, for 72 hours.
What it does not: make deliveries (``storage/outbox.py``) or know HTTP (``sender.py``). Started by ``app.py`` with the
application; everything it knows stands in the database, so it may be stopped at any moment. A delivery whose attempt was
interrupted is due again when its lease has run out.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from luthier.api.webhooks.sender import Attempt, WebhookSender
from luthier.core.errors import StorageFull, Unavailable
from luthier.core.webhooks import MAX_ENDPOINTS, WebhookDelivery, WebhookEndpoint
from luthier.storage.webhooks import WebhookStore

_LOG = logging.getLogger("luthier.webhooks")

IDLE_SECONDS = 0.5
FAULT_SECONDS = 5.0
"""Wait after a claim that failed, so that a database that stays away does not fill the log."""
LEASE_SECONDS = 30.0
"""Several times the longest attempt: a lease that runs out means that its process is gone."""
FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 4 * 3600.0
RETRY_SECONDS = 72 * 3600.0
"""How long after the event a delivery is given up. The last attempt is made when this time is over."""


def backoff_seconds(attempts: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds until the next attempt after this many: doubling from 5 s to 4 h, a fifth more or less by chance.

    Args:
        draw: a number from 0 to 1. Without chance, everything that failed together would return together.
    """
    doublings = min(attempts - 1, 20)  # beyond that the longest delay has long been reached
    return min(FIRST_DELAY_SECONDS * 2**doublings, LONGEST_DELAY_SECONDS) * (0.8 + 0.4 * draw())


class WebhookDeliveries:
    """Sends what the store owes.

    Args:
        store: endpoints and deliveries.
        sender: makes one attempt.
        clock: Unix seconds.
        backoff: seconds to wait after so many attempts.
    """

    def __init__(
        self,
        store: WebhookStore,
        sender: WebhookSender,
        *,
        clock: Callable[[], float] = time.time,
        backoff: Callable[[int], float] = backoff_seconds,
    ) -> None:
        self._store, self._sender = store, sender
        self._clock, self._backoff = clock, backoff
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; attempts under way end with it."""
        try:
            while True:
                pause = FAULT_SECONDS
                try:
                    await self.start_due()
                    pause = IDLE_SECONDS
                except (Unavailable, StorageFull) as busy:
                    _LOG.warning("no deliveries claimed: %s", busy.message)
                except Exception:  # noqa: BLE001 - an edge: one unforeseen fault must not end all deliveries in silence
                    _LOG.exception("no deliveries claimed")
                await asyncio.sleep(pause)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def start_due(self) -> int:
        """Claim what is due and start sending it, without waiting for the answers; returns how many attempts began."""
        # There are never more endpoints than slots, and each has at most one delivery on its way: none waits for another.
        free = MAX_ENDPOINTS - len(self._under_way)
        claimed = await asyncio.to_thread(self._store.claim, self._clock(), LEASE_SECONDS, free) if free else []
        for endpoint, delivery in claimed:
            task = asyncio.create_task(self._deliver(endpoint, delivery), name=f"webhook {delivery.id}")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return len(claimed)

    async def finish_started(self) -> None:
        """Wait for the attempts under way."""
        await asyncio.gather(*self._under_way)

    async def _deliver(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> None:
        try:
            attempt = await self._sender.send(endpoint, delivery.event, delivery.id)
            await asyncio.to_thread(self._note, endpoint, delivery, attempt)
        except (Unavailable, StorageFull) as busy:
            _LOG.warning("the outcome of webhook %s is not noted, it will be sent again: %s", delivery.id, busy.message)
        except Exception:  # noqa: BLE001 - an edge: nobody else would hear of it
            _LOG.exception("webhook %s failed", delivery.id)

    def _note(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery, attempt: Attempt) -> None:
        name = f"webhook {delivery.id} ({delivery.event.type} of {delivery.event.object_id}) to endpoint {endpoint.id}"
        now = self._clock()
        deadline = delivery.event.created_at + RETRY_SECONDS
        if attempt.accepted:
            self._store.close(delivery)
            _LOG.info("%s delivered in attempt %d", name, delivery.attempts)
        elif now >= deadline:
            self._store.close(delivery)
            _LOG.error("%s given up after %d attempts in 72 hours: %s", name, delivery.attempts, attempt)
        else:
            at = min(now + self._backoff(delivery.attempts), deadline)
            self._store.retry(delivery, at)
            _LOG.warning("%s failed in attempt %d, again in %.0f s: %s", name, delivery.attempts, at - now, attempt)
