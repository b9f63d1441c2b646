"""The packs: they take and answer actions.

Some crash, hang, answer late or twice, or disconnect while they take.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from flyteops_chaos.client import PAUSE, UNANSWERED, ChaosClient
from flyteops_chaos.flow import LAST, LEASE, LEASED, PACK, result_name
from flyteops_chaos.history import HandOut, History

TAKE = f"/v1/packs/{PACK}/actions/take"

ENDS = frozenset(LAST.values())

ABORT = struct.pack("ii", 1, 0)
"""Ends a connection with a reset, which is not mistaken for one closed on one side only."""


TAKES_MORE = 0.5
"""The share of results that ask for the next action."""

Received = tuple[HandOut, str]
"""An action that was handed out, and the path for its result."""


class PackClients:
    """Packs that run. `misbehaves` is the share of commands with a faulty behaviour."""

    def __init__(self, client: ChaosClient, history: History, *, misbehaves: float) -> None:
        self.misbehaves = misbehaves
        self._client = client
        self._history = history
        self._rng = client.rng
        self._may_take = asyncio.Event()
        self._may_take.set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._at_work = 0
        self._answering: set[asyncio.Task[Received | None]] = set()

    async def pause(self) -> None:
        """Stop all takes; return when no action is being taken or answered any more."""
        self._may_take.clear()
        await self._is_idle.wait()

    def resume(self) -> None:
        """Let the packs take actions again."""
        self._may_take.set()

    async def work(self) -> None:
        """Take actions and answer them without end."""
        while True:
            await self._may_take.wait()
            with self._busy():
                received = await self.take("?wait=0.5")
                while received is not None:
                    received = await self._deal_with(*received)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._at_work += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._is_idle.set()

    async def take(self, query: str) -> Received | None:
        """Take an action; return None if there is none, or no response."""
        try:
            answer = await self._client.call("POST", f"{TAKE}{query}")
        except UNANSWERED:
            await asyncio.sleep(PAUSE)
            return None
        if answer.status_code == 200:
            return self._receive(answer.json())
        if answer.status_code != 204:
            await asyncio.sleep(PAUSE)
        return None

    async def take_several(self, command: str, count: int, until: float) -> AsyncIterator[Received]:
        """Yield so many actions of a command.

        Fewer if they do not come until a time of the monotonic clock.
        """
        while count and time.monotonic() < until:
            received = await self.take(f"?wait=0.5&actionName={command}")
            if received is not None:
                count -= 1
                yield received

    def _receive(self, action: Mapping[str, Any]) -> Received:
        href = httpx2.URL(
            next(link["href"] for link in action["links"] if link["rel"].endswith("actionResult"))
        )
        return self._history.hand_out(action, href.path.split("/")[-2]), href.raw_path.decode()

    async def _deal_with(self, received: HandOut, path: str) -> Received | None:
        """Answer an action; return the next one if it came with the response."""
        if received.command in LEASED and not await self._behave():
            return None
        takes_more = self._may_take.is_set() and self._rng.random() < TAKES_MORE
        return await self.answer(received, path, takes_more=takes_more)

    async def _behave(self) -> bool:
        """Behave like a pack with a command that may be lost.

        Return whether there will be a result.
        """
        if self._rng.random() > self.misbehaves:
            return True
        if self._rng.random() < 0.4:
            return False  # a crash
        # A hang, with a late result.
        await asyncio.sleep(LEASE.total_seconds() * (0.5 + 2 * self._rng.random()))
        return True

    async def answer(
        self, received: HandOut, path: str, *, takes_more: bool = False
    ) -> Received | None:
        """Send the result of an attempt until a response is final, and sometimes once more.

        If it `takes_more`, return the next action if the response holds one.
        """
        event = result_name(received.command)
        payload = {**received.input, "attempt": received.attempt}
        body = {"event": event, "payload": payload}
        sent = self._history.answer(received, event, payload)
        accept = (200, 202, 404, 409).__contains__
        joint = "&" if "?" in path else "?"
        answer = await self._client.insist(
            "POST", f"{path}{joint}take=1" if takes_more else path, accept=accept, json=body
        )
        is_accepted = answer.status_code in (200, 202)
        sent.status = 202 if is_accepted else answer.status_code
        following = None
        if answer.status_code == 200:
            self._history.calls["taken with a result"] += 1
            following = self._receive(answer.json()["actions"][0])
        if not is_accepted:
            sent.code = answer.json().get("code", "")
            return None
        self._history.calls["ended"] += received.command in ENDS
        if self._rng.random() < self.misbehaves:
            again = await self._client.insist("POST", path, accept=accept, json=body)
            if again.status_code != 202:
                self._history.unexpected[
                    f"a result that was sent again was answered with {again.status_code}"
                ] += 1
        return following

    # -------------------------------------------------------------------------------------- leaving

    async def leave(self) -> None:
        """Take actions and disconnect in the middle of it, without end."""
        while True:
            await self._may_take.wait()
            await self.leave_once()
            await asyncio.sleep(0.1 * self._rng.random())

    async def leave_once(self, query: str = "") -> None:
        """Send a request for an action and close the connection.

        A response that has come by then counts.
        """
        address = urlsplit(self._client.rng.choice(self._client.urls))
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            try:
                await loop.sock_connect(connection, (address.hostname, address.port))
                await loop.sock_sendall(connection, _request(f"{TAKE}{query}", address.netloc))
                # From here on, no data is delivered any more; data that came before can be read.
                connection.shutdown(socket.SHUT_RDWR)
                action = _action_in(_rest_of(connection))
            except OSError:
                return
        if action is not None:
            # Not in this task, which may be cancelled: a received action is answered.
            answering = asyncio.create_task(self.answer(*self._receive(action)))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)


def _request(path: str, host: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode()


def _rest_of(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def _action_in(answer: bytes) -> dict[str, Any] | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    action: dict[str, Any] = json.loads(body)
    return action
