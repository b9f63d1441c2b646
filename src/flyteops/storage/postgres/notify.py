"""Wake-ups between the servers on one database, by notifications.

Notifications are sent separately from the changes that they announce, several together: a
transaction that notifies makes all others wait for its commit. So one may be lost with the server
that was to send it, which is why all servers also poll now and then.

Each server reports itself by a notification every few seconds, and at once when it hears of another
one for the first time. A server that has heard of no other keeps its notifications back: each would
be a commit of its own that nobody reads.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import asyncpg
import msgspec

from flyteops.background import BackgroundLoop
from flyteops.errors import FlyteError, StoreError
from flyteops.model import RoutingKey
from flyteops.storage.postgres.connector import Connector
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.pool import CONNECT_SECONDS, LOST, Pool
from flyteops.storage.row import decode_labels, read_queue, to_text
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.postgres", "notify")

CHANNEL = "flyte_arrived"

LISTENING = "Listening to other servers"
NOTIFYING = "Notifying other servers"
SEARCHING = "Searching for commands of which no notification came"
"""The background loops' names in readiness reports."""

GATHERING = 0.003
"""Seconds between two notifications."""

LOOKING = 1.0
"""Seconds between two searches, and before a retry, while notifications do not come."""

LOOKING_ANYWAY = 10.0
"""The same while they do come."""

GONE_AFTER = 3 * LOOKING_ANYWAY
"""Seconds without a message after which another server is considered gone."""

ANSWERING = 2.0
"""Seconds in which other servers answer the first message of a server that begins to listen."""

KEPT_BACK_FOR = 10.0
"""Seconds for which notifications are kept back at least.

A server that has begun to listen looks for waiting actions once, when it has received its own
message; another server that is slower to read that message may have kept back later ones.
"""

MAX_LENGTH = 7_000
"""The maximum size of a notification in bytes; the server accepts 8,000."""

NOT_ARRIVING = (
    "Notifications do not arrive: FLYTE_STORE_DIRECT_URL must lead to the same database as"
    " FLYTE_STORE, and not to a proxy that pools transactions."
)

MOST = 100
"""The maximum number of waiting actions of one kind to report, as in `waiting_queues`."""

Kind = tuple[str, str, str]
"""A pack's name, labels as text, and a command."""


class Notification(msgspec.Struct, frozen=True, array_like=True):
    """A notification: the sending server, the number of actions of each kind, and its store.

    The store is the number of its tables, as those of others may be in the same database.
    """

    sender: str
    arrived: list[tuple[str, str, str, int]]
    store: int | None = None


class Notifier:
    """Notifies other servers of available actions, and receives their notifications.

    `connector` bypasses any proxy. `store` is the number of the tables, known once they are opened.
    """

    def __init__(
        self,
        pool: Pool,
        connector: Connector,
        name: str,
        tell: Callable[[Sequence[RoutingKey]], None],
        loop: Callable[[str], BackgroundLoop],
    ) -> None:
        self._loop = loop
        self.store: int | None = None
        self._pool = pool
        self._connector = connector
        self._own = asyncio.Event()
        self._name = name
        self._tell = tell
        self._arrived: Counter[Kind] = Counter()
        self._has_arrived = asyncio.Event()
        self._kept_back: deque[tuple[float, Counter[Kind]]] = deque()
        self._others: dict[str, float] = {}
        self._reports_itself = False
        self._is_listening = False
        self._listens_since = 0.0
        self._may_have_missed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start listening and notifying."""
        self._tasks = [
            asyncio.ensure_future(work()) for work in (self._listen, self._notify, self._look)
        ]

    async def stop(self) -> None:
        """Stop listening and notifying."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def announce(self, addresses: Iterable[RoutingKey]) -> None:
        """Schedule a notification to other servers."""
        for address in addresses:
            self._arrived[address.pack_name, to_text(address.pack_labels), address.command] += 1
            self._has_arrived.set()

    async def _notify(self) -> None:
        while True:
            await self._has_arrived.wait()
            self._has_arrived.clear()
            try:
                for text in self._due_messages():
                    await self._pool.rows(SQL.notify, CHANNEL, text)
                self._loop(NOTIFYING).succeeded()
            # The loop goes on after any error: servers that are not notified poll.
            except Exception as error:  # noqa: BLE001
                self._loop(NOTIFYING).failed(error)
            await asyncio.sleep(GATHERING)

    def _due_messages(self) -> Sequence[str]:
        arrived, self._arrived = self._arrived, Counter()
        if self._is_alone():
            self._keep_back(arrived)
            return ()
        messages = list(self._messages(arrived))
        if self._reports_itself and not messages:
            messages = [self._message([])]
        self._reports_itself = False
        return messages

    def _is_alone(self) -> bool:
        """Return whether no other server has reported itself, as far as that would be heard."""
        now = _now()
        return (
            self._is_listening
            and now > self._listens_since + ANSWERING
            and all(at < now - GONE_AFTER for at in self._others.values())
        )

    def _keep_back(self, arrived: Counter[Kind]) -> None:
        """Keep a notification for a server that has begun to listen and is not yet heard of."""
        now = _now()
        while self._kept_back and self._kept_back[0][0] < now - KEPT_BACK_FOR:
            self._kept_back.popleft()
        if self._kept_back and self._kept_back[-1][0] > now - KEPT_BACK_FOR / 10:
            self._kept_back[-1][1].update(arrived)
        else:
            self._kept_back.append((now, arrived))

    def _hear_of(self, sender: str) -> None:
        """Note that another server exists; send a new one the withheld notifications."""
        now = _now()
        is_new = self._others.get(sender, -GONE_AFTER) < now - GONE_AFTER
        self._others[sender] = now
        if not is_new:
            return
        self._others = {name: at for name, at in self._others.items() if at >= now - GONE_AFTER}
        for _, arrived in self._kept_back:
            self._arrived.update(arrived)
        self._kept_back.clear()
        self._reports_itself = True
        self._has_arrived.set()

    def _messages(self, arrived: Counter[Kind]) -> Iterable[str]:
        part: list[tuple[str, str, str, int]] = []
        length = 0
        for kind, count in arrived.items():
            size = len(msgspec.json.encode(kind)) + 10
            if size > MAX_LENGTH:
                continue  # waiting packs find it by polling
            if length + size > MAX_LENGTH:
                yield self._message(part)
                part, length = [], 0
            part.append((*kind, min(count, MOST)))
            length += size
        if part:
            yield self._message(part)

    def _message(self, arrived: list[tuple[str, str, str, int]]) -> str:
        return msgspec.json.encode(Notification(self._name, arrived, self.store)).decode()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except FlyteError as error:
                self._loop(LISTENING).failed(error)
            except (*LOST, asyncpg.PostgresError, ValueError) as error:
                self._loop(LISTENING).failed(self._pool.refusal(error))
            except Exception as error:  # noqa: BLE001 - the loop goes on after any error
                self._loop(LISTENING).failed(error)
            self._set_listening(False)
            await asyncio.sleep(LOOKING)

    async def _listen_once(self) -> None:
        async with self._connector.opened() as connection:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(CHANNEL, self._receive)
            while not gone.is_set():
                # A connection that only listens would not notice that the other side has vanished
                # without a word, or that it is another database.
                await self._notify_itself()
                self._set_listening(True)
                self._loop(LISTENING).succeeded()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOKING_ANYWAY):
                        await gone.wait()

    async def check(self) -> None:
        """Raise `StoreError` when notifications from the pool do not arrive here.

        Raise `UnavailableError` when nothing answers.
        """
        try:
            async with self._connector.opened() as connection:
                await connection.add_listener(CHANNEL, self._receive)
                await self._notify_itself()
        except (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
        ) as error:
            reason = self._connector.conninfo.hide(str(error))
            raise StoreError(
                f"The database of FLYTE_STORE_DIRECT_URL does not let this server work: {reason}."
            ) from error
        except (*LOST, asyncpg.PostgresError) as error:
            raise self._pool.refusal(error) from error

    async def _notify_itself(self) -> None:
        self._own.clear()
        await self._pool.rows(SQL.notify, CHANNEL, self._message([]))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._own.wait()
        except TimeoutError:
            raise StoreError(NOT_ARRIVING) from None

    def _receive(self, _connection: Connection, _pid: int, _channel: str, text: object) -> None:
        try:
            message = msgspec.json.decode(str(text), type=Notification)
        except msgspec.MsgspecError:
            return  # from another program
        if message.sender == self._name:
            self._own.set()
        elif message.store in (None, self.store):
            self._hear_of(message.sender)
            self._tell_of(message.arrived)

    def _tell_of(self, arrived: Iterable[tuple[str, str, str, int]]) -> None:
        for pack_name, labels, command, count in arrived:
            self._tell([RoutingKey(pack_name, decode_labels(labels), command)] * count)

    async def _look(self) -> None:
        while True:
            await self._pause()
            try:
                await self._look_once()
                self._loop(SEARCHING).succeeded()
            except Exception as error:  # noqa: BLE001 - the loop goes on after any error
                self._loop(SEARCHING).failed(error)

    async def _look_once(self) -> None:
        for pack_name, labels, command, count in await self._pool.rows(SQL.waiting_queues):
            # A claim looks for the labels of its pack and never meets a damaged queue: it is
            # reported here.
            self._tell(
                [RoutingKey(pack_name, read_queue(pack_name, labels, command), command)] * count
            )

    async def _pause(self) -> None:
        """Wait for the next search: for a while, or until notifications may have been missed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOKING_ANYWAY if self._is_listening else LOOKING):
                await self._may_have_missed.wait()
        self._may_have_missed.clear()

    def _set_listening(self, is_listening: bool) -> None:
        if is_listening != self._is_listening:
            self._is_listening = is_listening
            self._listens_since = _now()
            self._may_have_missed.set()


def _now() -> float:
    return time.monotonic()
