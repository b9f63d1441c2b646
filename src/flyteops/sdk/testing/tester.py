"""The driver of a pack in a test."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec

from flyteops.errors import FlyteError
from flyteops.sdk.client import Client
from flyteops.sdk.environment import Environment
from flyteops.sdk.event import Event
from flyteops.sdk.pack import Pack
from flyteops.sdk.session import Session
from flyteops.sdk.testing.clock import ManualClock, settle
from flyteops.sdk.testing.server import FakeServer

API = "http://flyte.test"


class PackTester:
    """Run a pack against a `FakeServer`; an asynchronous context manager.

    The clock stands still but for `advance`. Leaving the block stops the pack like SIGTERM, and
    raises the error that ended it before.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        environment: Environment | None = None,
        now: datetime = datetime(2024, 1, 1, 12, tzinfo=UTC),
        patience: float = 10.0,
    ) -> None:
        self.clock = ManualClock(now)
        self.server = FakeServer(clock=self.clock)
        self._pack = pack
        self._environment = msgspec.structs.replace(
            environment or Environment(api=API), api=API, health_port=None
        )
        self._patience = patience
        self._session: Session | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def sent(self) -> list[Event]:
        """The events that the pack sent, other than results, oldest first."""
        return self.server.events

    async def __aenter__(self) -> Self:
        client = Client.of(self._environment, transport=self.server)
        self._session = Session(self._pack.declaration(self._environment), client, self.clock)
        self._serving = asyncio.create_task(_serve(self._session, client))
        await self._wait(lambda: bool(self.server.registrations), "a registration")
        await settle()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
            self._serving = None
        await self.stop()

    async def run(self, command: str, command_input: object = None) -> Event:
        """Request a command from the pack, and return the event of its result."""
        action_id = self.server.ask(command, command_input)
        await self._wait(lambda: action_id in self.server.results, f"the result of {command}")
        return self.server.results[action_id]

    async def advance(self, seconds: float) -> None:
        """Let time pass for the pack."""
        await self.clock.advance(seconds)

    async def next_sent(self) -> Event:
        """Wait for one more event than the pack has sent so far, and return it."""
        seen = len(self.sent)
        await self._wait(lambda: len(self.sent) > seen, "an event")
        return self.sent[seen]

    async def stop(self) -> None:
        """Stop the pack like SIGTERM, and wait for its end.

        If the pack had ended with an error before, raise that error.
        """
        serving, self._serving = self._serving, None
        if self._session is not None:
            self._session.stop()
            self.server.let_go()
        if serving is not None:
            await serving

    async def health(self) -> dict[str, str]:
        """Return the unhealthy entries, with their reasons."""
        health = {} if self._session is None else await self._session.health()
        return {name: outcome.status for name, outcome in health.items() if not outcome.healthy}

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        waiting = asyncio.create_task(self.server.until(condition))
        watched = {waiting, self._serving} if self._serving is not None else {waiting}
        try:
            await asyncio.wait(watched, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if waiting.done() and not waiting.cancelled():
            return
        if self._serving is not None and self._serving.done():
            serving, self._serving = self._serving, None
            serving.result()
        message = f"timed out waiting for {what} after {self._patience:g} s"
        raise FlyteError(message)


async def _serve(session: Session, client: Client) -> None:
    async with client:
        await session.run()


def run_command(pack: Pack, command: str, command_input: object = None) -> Event:
    """Run one command, and return the event of its result; for tests that are not coroutines."""

    async def run() -> Event:
        async with PackTester(pack) as tester:
            return await tester.run(command, command_input)

    return asyncio.run(run())
