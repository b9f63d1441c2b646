"""Packs that wait for something to do, and how they are told at once when there is something."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flyteops.errors import BusyError
from flyteops.model import Address, PackRef

REMEMBERED = 10_000
"""For how many addresses it is remembered who may take what is sent there."""


class Waiter:
    """One caller that waits. `told` is where something has arrived for it since it last looked."""

    __slots__ = ("_arrived", "_is_dismissed", "command", "pack", "told")

    def __init__(self, pack: PackRef, command: str | None) -> None:
        self.pack = pack
        self.command = command
        self.told: list[Address] = []
        self._arrived = asyncio.Event()
        self._is_dismissed = False

    def accepts(self, address: Address) -> bool:
        return address.accepts(self.pack, self.command)

    def tell(self, address: Address) -> None:
        """Wake the caller."""
        self.told.append(address)
        self._arrived.set()

    def dismiss(self) -> None:
        """Let the caller wait no longer, although nothing has arrived."""
        self._is_dismissed = True
        self._arrived.set()

    async def wait(self, seconds: float) -> bool:
        """Return True once something has arrived, False when the time is over or there is no use in waiting."""
        if self._is_dismissed:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return bool(self.told)
        return not self._is_dismissed

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look for what has arrived; what arrives from now on is told anew. What was told stays so if the look fails."""
        told, self.told = self.told, []
        if not self._is_dismissed:
            self._arrived.clear()
        try:
            yield
        except BaseException:  # whatever it is, what has arrived must not be forgotten
            self.told += told
            raise


class WaitingRoom:
    """Those who wait. Of those who may take something that arrives, one is told; it hands on what it leaves without taking."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._count = 0
        self._is_closed = False
        # Who waits under which pack id, and which ids that somebody ever waited under may take what is sent to an address.
        self._waiters: dict[str, dict[Waiter, None]] = {}
        self._packs: dict[str, dict[str, PackRef]] = {}
        self._accepting: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return self._count

    def enter(self, pack: PackRef, command: str | None) -> Waiter:
        """Begin to wait; raise `BusyError` when too many do."""
        if self._count >= self._limit:
            raise BusyError
        self._count += 1
        waiter = Waiter(pack, command)
        known = self._packs.setdefault(pack.name, {})
        if known.get(pack.id) != pack:
            known[pack.id] = pack
            self._accepting.clear()
        self._waiters.setdefault(pack.id, {})[waiter] = None
        if self._is_closed:
            waiter.dismiss()
        return waiter

    def close(self) -> None:
        """Send everybody away; whoever comes from now on does not wait."""
        self._is_closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.dismiss()

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer; what this one was told of and has not looked for goes to the next."""
        self._count -= 1
        waiters = self._waiters[waiter.pack.id]
        del waiters[waiter]
        if not waiters:
            del self._waiters[waiter.pack.id]
        self.announce(waiter.told)

    def announce(self, addresses: Iterable[Address]) -> None:
        """Tell one of those who may take it of each thing that has arrived."""
        if not self._waiters:
            return
        for address in addresses:
            waiter = self._next(address)
            if waiter is not None:
                waiter.tell(address)

    def _next(self, address: Address) -> Waiter | None:
        for pack_id in self._ids(address):
            for waiter in self._waiters.get(pack_id, ()):
                if not waiter.told and waiter.accepts(address):
                    return waiter
        return None

    def _ids(self, address: Address) -> tuple[str, ...]:
        key = (address.pack_name, tuple(sorted(address.pack_labels.items())))
        found = self._accepting.get(key)
        if found is None:
            packs = self._packs.get(address.pack_name, {}).values()
            found = tuple([pack.id for pack in packs if address.accepts(pack)])
            if len(self._accepting) >= REMEMBERED:
                self._accepting.clear()
            self._accepting[key] = found
        return found
