"""The state of an SQLite store after a power failure at any moment.

A server works for a while, and strace logs every write, sync and response. From that log, the disk
is derived as it would be if the power had failed at a moment: data that was not synced is lost, or
there in part. Each of these disks must have everything that was acknowledged.
"""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from flyteops.errors import FlyteError, NotFoundError
from flyteops.model import ActionState
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops_chaos import block_log
from flyteops_chaos.block_log import FileSync, FileWrite, Operation, SocketSend
from flyteops_chaos.disk import Disk
from flyteops_chaos.flow import DELAY_SECONDS, OFFER, PACK, event_name, flows, pack
from flyteops_chaos.server import ServerProcess

CLIENTS = 4
EVENTS = 60
"""The number of events that each client sends."""

PADDING = "x" * 4000
"""Makes events so long that the write-ahead log is copied into the database meanwhile."""

ANSWERS, OTHERS = 24, 12
"""The number of power failures after responses, and after the database's writes and syncs."""

RECENT = 30
"""The number of the last acknowledgements that are checked; losses are at the end."""

MAX_FAULTS = 5

LOCATION = re.compile(rb"\r\nlocation: \S*/v1/audit/events/(\w+)\r\n", re.IGNORECASE)


def can_be_checked() -> bool:
    """Return whether the program that this needs is installed."""
    return shutil.which("strace") is not None


@dataclass
class LoggedConnection:
    """A client's connection and its requests, in order.

    Each response in the log belongs to one of them.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.writer.get_extra_info("sockname")[1]
        return port

    async def ask(
        self, kind: str, identifier: str, path: str, body: object = None
    ) -> tuple[int, bytes]:
        """Make a request; return status and body."""
        self.asked.append((kind, identifier))
        content = b"" if body is None else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self.writer.write(head.encode() + content)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", answer, re.IGNORECASE)
        return int(answer.split()[1]), await self.reader.readexactly(
            int(length[1]) if length else 0
        )


@dataclass(frozen=True)
class AcknowledgedRequest:
    """An acknowledged request."""

    kind: str
    identifier: str

    def __str__(self) -> str:
        return f"{self.kind} {self.identifier}"


class PowerLoss:
    """A logged server, and many moments at which its power fails."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        bug: str | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._folder = folder / "power-loss"
        self._folder.mkdir()
        self._log = folder / "power-loss.strace"
        # In a directory that the server has to make: that must be there afterwards as well.
        self._store = self._folder / "data" / "flyte.db"
        url = f"sqlite:///{self._store}"
        self._server = ServerProcess(
            folder, "power-loss", store=url, bug=bug, wrapper=block_log.tracer(self._log)
        )
        self._rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self._connections: dict[int, LoggedConnection] = {}
        self._report = report

    async def run(self) -> list[str]:
        """Return the acknowledged requests that would be lost."""
        try:
            await self._server.start()
            await self._work()
            code = await self._server.end()
        finally:
            self._server.close()
        if code:
            return [
                f"the server that was logged ended with exit code {code}",
                *self._server.complaints(),
            ]
        return await self._replay(await asyncio.to_thread(self._read_log))

    async def _work(self) -> None:
        async with self._connect() as first:
            await first.ask("pack", PACK, "/v1/packs", pack())
            for flow in flows(DELAY_SECONDS):
                await first.ask("flow", flow["name"], "/v1/flows", flow)
        await asyncio.gather(*(self._send_and_take() for _ in range(CLIENTS)))

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[LoggedConnection]:
        connection = LoggedConnection(
            *await asyncio.open_connection(*self._server.listener.getsockname())
        )
        self._connections[connection.port] = connection
        yield connection
        connection.writer.close()

    async def _send_and_take(self) -> None:
        async with self._connect() as connection:
            for number in range(EVENTS):
                body = {
                    "event": event_name(OFFER),
                    "payload": {"number": number, "padding": PADDING},
                }
                await connection.ask("event", "", f"/v1/packs/{PACK}/events", body)
                status, action = await connection.ask("take", "", f"/v1/packs/{PACK}/actions/take")
                if status == 200 and number % 2:
                    path = json.loads(action)["links"][0]["href"].partition("/v1/")[2]
                    await connection.ask(
                        "result",
                        path.split("/")[-2],
                        f"/v1/{path}",
                        {"event": "FetchDone", "payload": PADDING},
                    )

    def _read_log(self) -> list[tuple[int, Operation]]:
        with self._log.open(encoding="ascii") as lines:
            return block_log.read(lines)

    # ----------------------------------------------------------------------------------- the replay

    async def _replay(self, operations: Sequence[tuple[int, Operation]]) -> list[str]:
        """Return the losses if the power fails at any of some moments."""
        disk, acknowledged = Disk(self._folder), list[AcknowledgedRequest]()
        counts = dict.fromkeys(self._connections, 0)
        faults: list[str] = []
        moments = self._moments(operations)
        for place, (at, operation) in enumerate(operations):
            if isinstance(operation, SocketSend):
                acknowledged += self._acknowledged(operation, counts)
            else:
                disk.do(at, operation)
            if place in moments:
                faults += await self._fail(disk, acknowledged)
            if len(faults) >= MAX_FAULTS:
                break
        self._report(
            f"the power failed at {len(moments)} moments; {len(acknowledged)} acknowledgements were"
            " looked for"
        )
        return faults

    def _moments(self, operations: Sequence[tuple[int, Operation]]) -> set[int]:
        answers = [
            place
            for place, (_, operation) in enumerate(operations)
            if isinstance(operation, SocketSend)
        ]
        others = [
            place
            for place, (_, operation) in enumerate(operations)
            if isinstance(operation, FileWrite | FileSync)
            and operation.path == str(self._store)
            and place > answers[0]
        ]
        some = [
            self._rng.sample(places, min(count, len(places)))
            for places, count in ((answers, ANSWERS), (others, OTHERS))
        ]
        return {*some[0], *some[1], answers[-1]}

    def _acknowledged(
        self, answer: SocketSend, counts: dict[int, int]
    ) -> list[AcknowledgedRequest]:
        """Return the requests that a response acknowledges, if it is the beginning of one."""
        if not answer.data.startswith(b"HTTP/1.1 ") or answer.port not in counts:
            return []
        kind, identifier = self._connections[answer.port].asked[counts[answer.port]]
        counts[answer.port] += 1
        location = LOCATION.search(answer.data)
        if kind == "event" and location is not None:
            identifier = location[1].decode()
        is_done = answer.data[9:12] in (b"201", b"202")
        return [AcknowledgedRequest(kind, identifier)] if is_done else []

    async def _fail(self, disk: Disk, acknowledged: Sequence[AcknowledgedRequest]) -> list[str]:
        """Let the power fail, once with all unsynced data lost, and once with some of it there."""
        faults = []
        for rng, how in (
            (None, "nothing is left that was not synced"),
            (self._rng, "some is left that was not synced"),
        ):
            with tempfile.TemporaryDirectory(dir=self._folder.parent) as place:
                disk.write_what_is_left(Path(place), rng)
                lost = await self._losses(Path(place), acknowledged[-RECENT:])
            faults += [
                f"when the power fails after {len(acknowledged)} acknowledgements and {how}, {each}"
                for each in lost[:1]
            ]
        return faults

    async def _losses(self, place: Path, acknowledged: Sequence[AcknowledgedRequest]) -> list[str]:
        try:
            async with open_store(
                f"sqlite:///{place / self._store.relative_to(self._folder)}"
            ) as store:
                return [
                    f"{each} is lost" for each in acknowledged if not await _is_there(store, each)
                ]
        except FlyteError as error:
            return [f"the store cannot be opened: {error.message}"]


async def _is_there(store: Store, what: AcknowledgedRequest) -> bool:
    """Return whether the store has an acknowledged request, with all that follows from it."""
    if what.kind == "pack":
        return await store.find_pack(what.identifier) is not None
    if what.kind == "flow":
        return what.identifier in await store.list_current()
    try:
        if what.kind == "result":
            return (await store.get_action(what.identifier)).state is ActionState.SUCCESS
        record = await store.get_event(what.identifier)
        actions = [decision.action_id for decision in record.decisions if decision.action_id]
        return bool(actions) and all([await store.get_action(action_id) for action_id in actions])
    except NotFoundError:
        return False
