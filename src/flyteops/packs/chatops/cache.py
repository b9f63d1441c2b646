"""A cache of values with a time limit."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

V = TypeVar("V")


class Cache(Generic[V]):
    """Keeps at most so many values for so many seconds.

    Concurrent callers share one look-up of a key.
    """

    def __init__(self, seconds: float, now: Callable[[], float], *, most: int = 10_000) -> None:
        self._seconds = seconds
        self._now = now
        self._most = most
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(
        self, key: str, look_up: Callable[[], Awaitable[V]], *, at_most: float | None = None
    ) -> V:
        """Return the value of a key, at most so many seconds old.

        An exception of `look_up` is not kept.
        """
        age = self._seconds if at_most is None else min(at_most, self._seconds)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            kept = self._kept.get(key)
            if kept is not None and self._now() - kept[0] < age:
                return kept[1]
            value = await look_up()
            self._kept[key] = (self._now(), value)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return value
