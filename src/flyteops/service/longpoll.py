"""Long-polling packs, and their wake-up when an action arrives."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flyteops.errors import BusyError
from flyteops.model import PackRef, RoutingKey

REMEMBERED = 10_000
"""The number of addresses with cached lists of the pack ids that accept them."""


class Subscriber:
    """A waiting caller. `arrivals` holds the addresses of new actions since its last poll."""

    __slots__ = ("_arrived", "_is_cancelled", "arrivals", "command", "pack")

    def __init__(self, pack: PackRef, command: str | None) -> None:
        self.pack = pack
        self.command = command
        self.arrivals: list[RoutingKey] = []
        self._arrived = asyncio.Event()
        self._is_cancelled = False

    def accepts(self, routing_key: RoutingKey) -> bool:
        return routing_key.accepts(self.pack, self.command)

    def notify(self, routing_key: RoutingKey) -> None:
        """Wake the caller."""
        self.arrivals.append(routing_key)
        self._arrived.set()

    def wake(self) -> None:
        """Wake the caller although no arrival is known."""
        self._arrived.set()

    def cancel(self) -> None:
        """End the wait although nothing has arrived."""
        self._is_cancelled = True
        self._arrived.set()

    async def wait(self, seconds: float) -> bool:
        """Return True after an arrival, False on timeout or cancellation."""
        if self._is_cancelled:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return bool(self.arrivals)
        return not self._is_cancelled

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Poll for arrivals; later ones wake the caller again.

        If the poll fails, earlier ones are kept.
        """
        arrivals, self.arrivals = self.arrivals, []
        if not self._is_cancelled:
            self._arrived.clear()
        try:
            yield
        except BaseException:  # on any failure, arrivals must not be lost
            self.arrivals += arrivals
            raise


class LongPolls:
    """Long-polling takes.

    A new action wakes one matching subscriber; one that leaves without it wakes the next.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._count = 0
        self._is_closed = False
        # The subscribers by pack id, and the ids of all packs that ever waited for an address.
        self._subscribers: dict[str, dict[Subscriber, None]] = {}
        self._packs: dict[str, dict[str, PackRef]] = {}
        self._accepting: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return self._count

    def subscribe(self, pack: PackRef, command: str | None) -> Subscriber:
        """Begin to wait; raise `BusyError` if too many callers wait."""
        if self._count >= self._limit:
            raise BusyError
        self._count += 1
        subscriber = Subscriber(pack, command)
        known = self._packs.setdefault(pack.name, {})
        if known.get(pack.id) != pack:
            known[pack.id] = pack
            self._accepting.clear()
        self._subscribers.setdefault(pack.id, {})[subscriber] = None
        if self._is_closed:
            subscriber.cancel()
        return subscriber

    def close(self) -> None:
        """Cancel all waits; later callers do not wait."""
        self._is_closed = True
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.cancel()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop waiting; arrivals that this subscriber has not polled for go to the next."""
        self._count -= 1
        subscribers = self._subscribers[subscriber.pack.id]
        del subscribers[subscriber]
        if not subscribers:
            del self._subscribers[subscriber.pack.id]
        self.notify(subscriber.arrivals)

    def notify(self, routing_keys: Iterable[RoutingKey]) -> None:
        """Wake one subscriber for each arrival that it accepts."""
        if not self._subscribers:
            return
        for routing_key in routing_keys:
            subscriber = self._next(routing_key)
            if subscriber is not None:
                subscriber.notify(routing_key)

    def notify_all(self) -> None:
        """Wake all subscribers, as it is unknown whether anything has arrived."""
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.wake()

    def _next(self, routing_key: RoutingKey) -> Subscriber | None:
        for pack_id in self._ids(routing_key):
            for subscriber in self._subscribers.get(pack_id, ()):
                if not subscriber.arrivals and subscriber.accepts(routing_key):
                    return subscriber
        return None

    def _ids(self, routing_key: RoutingKey) -> tuple[str, ...]:
        key = (routing_key.pack_name, tuple(sorted(routing_key.pack_labels.items())))
        found = self._accepting.get(key)
        if found is None:
            packs = self._packs.get(routing_key.pack_name, {}).values()
            found = tuple([pack.id for pack in packs if routing_key.accepts(pack)])
            if len(self._accepting) >= REMEMBERED:
                self._accepting.clear()
            self._accepting[key] = found
        return found
