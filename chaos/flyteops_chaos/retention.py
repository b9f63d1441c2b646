"""Retention: ended executions are removed after their time, and others never."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from flyteops_chaos.check.execution import Execution, number_of
from flyteops_chaos.client import PAUSE, ChaosClient
from flyteops_chaos.flow import DELAY, JOIN, LAST, OFFER, VERSION, WORK
from flyteops_chaos.pack import PackClients, Received
from flyteops_chaos.sender import Sender
from flyteops_chaos.server import ServerProcess

SETTINGS = {"FLYTE_AUDIT_TTL_IN_SECONDS": "1"}

WAITING = {WORK: 4, JOIN: 3, VERSION: 3, DELAY: 2, OFFER: 4}
"""The number of executions of each kind that are in progress while others are removed."""

HALF_DONE = 2
"""The number of executions in which one action has ended and another waits."""

HELD = 2
"""The number of actions that a pack has while others are removed."""

MIN_PATIENCE = 30.0
"""The minimum number of seconds allowed until the executions are in progress."""


class RetentionTrial:
    """Executions in all stages, while the servers keep ended ones for no longer than a second."""

    def __init__(
        self,
        client: ChaosClient,
        sender: Sender,
        packs: PackClients,
        servers: Sequence[ServerProcess],
    ) -> None:
        self._client = client
        self._history = client.history
        self._sender = sender
        self._packs = packs
        self._servers = servers
        self._numbers: list[int] = []
        self._before: dict[int | None, Execution] = {}

    async def run(self, patience: float) -> list[str]:
        """Return wrong removals, and missing ones."""
        await self._packs.pause()
        try:
            async with asyncio.timeout(max(patience, MIN_PATIENCE)):
                held, ended = await self._begin(), await self._end_one()
        except TimeoutError:
            self._packs.resume()
            return ["an action that waits was not handed out before retention was put to the test"]
        executions = {
            number_of(execution): execution for execution in await self._client.executions()
        }
        self._before = {
            number: execution for number, execution in executions.items() if number in self._numbers
        }
        await self._restart()
        faults = await self._await_removal(self._before.pop(ended), patience)
        faults += [
            fault
            for number, execution in self._before.items()
            for fault in await self._losses(number, execution)
        ]
        self._packs.resume()
        await asyncio.gather(*(self._packs.answer(*each) for each in held))
        return faults

    async def _begin(self) -> list[Received]:
        """Begin executions, continue some, and return the actions that a pack keeps."""
        self._numbers = [
            await self._sender.send(kind) for kind, count in WAITING.items() for _ in range(count)
        ]
        for _ in range(HALF_DONE):
            await self._packs.answer(*await self._take("Work"))
        return [await self._take("Fetch") for _ in range(HELD)]

    async def _end_one(self) -> int | None:
        """End an execution, as the last activity; return its number."""
        received, path = await self._take("Fetch")
        await self._packs.answer(received, path)
        return received.number

    async def _take(self, command: str) -> Received:
        while True:
            received = await self._packs.take(f"?wait=1&actionName={command}")
            if received is not None:
                return received

    async def _restart(self) -> None:
        self._history.is_calm = False
        for server in self._servers:
            server.settings = SETTINGS
            await server.kill()
            await server.start()
        await self._client.wait_until_ready()
        self._history.is_calm = True

    async def _await_removal(self, ended: Execution, patience: float) -> list[str]:
        """Return when the ended execution was removed.

        All others had their last activity before it.
        """
        end = time.monotonic() + patience
        while await self._find(ended) is not None:
            if time.monotonic() > end:
                return [f"event {number_of(ended)}: its execution has ended and is not removed"]
            await asyncio.sleep(PAUSE)
        return []

    async def _losses(self, number: int | None, before: Execution) -> list[str]:
        now = await self._find(before)
        if now is None:
            return [f"event {number}: its execution was removed before it had ended"]
        return [
            f"event {number}: its step {step_id} was removed before the execution had ended"
            for step_id, action in before["actions"].items()
            if now["actions"].get(step_id, {}).get("id") != action["id"]
        ]

    async def _find(self, execution: Execution) -> dict[str, Any] | None:
        path = f"/v1/audit/flows/{execution['correlationId']}"
        answer = await self._client.insist("GET", path, accept=(200, 404).__contains__)
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    async def unfinished(self) -> list[str]:
        """Return the events whose last command has no acknowledged result.

        Call it after everything has come to rest.
        """
        await self._packs.pause()
        done = {
            (received.number, received.command)
            for action_id, (received, *_) in self._history.hand_outs.items()
            if action_id in self._history.applied
        }
        kinds = {
            number: self._history.events[number].kind
            for number in self._before
            if number is not None
        }
        return [
            f"event {number} ({kind}) was not carried out to its end: {await self._state(number)}"
            for number, kind in kinds.items()
            if (number, LAST[kind]) not in done
        ]

    async def _state(self, number: int) -> str:
        execution = await self._find(self._before[number])
        if execution is None:
            return "its execution is gone"
        return ", ".join(
            f"{step_id} is {action['state']['value']}"
            for step_id, action in execution["actions"].items()
        )
