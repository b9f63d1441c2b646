"""Wake-ups between the servers on one database, by notifications.

Notifications are sent separately from the changes that they announce, several together: a
transaction that notifies makes all others wait for its commit. So one may be lost with the server
that was to send it, which is why all servers also poll now and then.
"""

import asyncio
import contextlib
from collections import Counter
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

MAX_LENGTH = 7_000
"""The maximum size of a notification in bytes; the server accepts 8,000."""

NOT_ARRIVING = (
    "Notifications do not arrive: FLYTE_STORE_DIRECT_URL must lead to the same database as"
    " FLYTE_STORE, and not to a proxy that pools transactions."
)

MOST = 100
"""The maximum number of waiting actions of one kind to report at a time."""

KINDS = f"""
WITH RECURSIVE kinds AS (
    (SELECT pack_name, labels, command FROM flyte_action WHERE state = 'NEW' ORDER BY pack_name,
        labels, command LIMIT 1)
    UNION ALL
    SELECT following.* FROM kinds CROSS JOIN LATERAL (
      SELECT pack_name, labels, command FROM flyte_action
      WHERE state = 'NEW' AND (pack_name, labels, command) > (kinds.pack_name, kinds.labels,
          kinds.command)
      ORDER BY pack_name, labels, command LIMIT 1
    ) following
  )
SELECT pack_name, labels, command, (
    SELECT count(*) FROM (
      SELECT FROM flyte_action a
      WHERE state = 'NEW' AND a.pack_name = k.pack_name AND a.labels = k.labels AND a.command =
          k.command LIMIT {MOST}
    ) waiting
  )
FROM kinds k LIMIT 1000
"""  # noqa: S608 - a constant number

Kind = tuple[str, str, str]
"""A pack's name, labels as text, and a command."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A notification: the sending server, and the number of actions of each kind."""

    sender: str
    arrived: list[tuple[str, str, str, int]]


class Notifier:
    """Notifies other servers of available actions, and receives their notifications.

    `connector` bypasses any proxy.
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
        self._pool = pool
        self._connector = connector
        self._own = asyncio.Event()
        self._name = name
        self._tell = tell
        self._arrived: Counter[Kind] = Counter()
        self._has_arrived = asyncio.Event()
        self._is_listening = False
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
            arrived, self._arrived = self._arrived, Counter()
            try:
                for text in self._messages(arrived):
                    await self._pool.rows("SELECT pg_notify($1, $2)", CHANNEL, text)
                self._loop(NOTIFYING).succeeded()
            # The loop goes on after any error: servers that are not notified poll.
            except Exception as error:  # noqa: BLE001
                self._loop(NOTIFYING).failed(error)
            await asyncio.sleep(GATHERING)

    def _messages(self, arrived: Counter[Kind]) -> Iterable[str]:
        part: list[tuple[str, str, str, int]] = []
        length = 0
        for kind, count in arrived.items():
            size = len(msgspec.json.encode(kind)) + 10
            if size > MAX_LENGTH:
                continue  # waiting packs find it by polling
            if length + size > MAX_LENGTH:
                yield msgspec.json.encode(Message(self._name, part)).decode()
                part, length = [], 0
            part.append((*kind, min(count, MOST)))
            length += size
        if part:
            yield msgspec.json.encode(Message(self._name, part)).decode()

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
        text = msgspec.json.encode(Message(self._name, [])).decode()
        await self._pool.rows("SELECT pg_notify($1, $2)", CHANNEL, text)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._own.wait()
        except TimeoutError:
            raise StoreError(NOT_ARRIVING) from None

    def _receive(self, _connection: Connection, _pid: int, _channel: str, text: object) -> None:
        try:
            message = msgspec.json.decode(str(text), type=Message)
        except msgspec.MsgspecError:
            return  # from another program
        if message.sender == self._name:
            self._own.set()
        else:
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
        for pack_name, labels, command, count in await self._pool.rows(KINDS):
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
            self._may_have_missed.set()
