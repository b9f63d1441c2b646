"""The registration of a pack: made at its start, and again when the server has lost it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flyteops.errors import FlyteError, NotFoundError, UnavailableError
from flyteops.retry import FailureLog
from flyteops.sdk.client import Client, Registration
from flyteops.sdk.declaration import Declaration

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.pack")


class Registrar:
    """Keeps a pack registered; `current` is None until the first registration."""

    def __init__(self, declaration: Declaration, client: Client) -> None:
        self.current: Registration | None = None
        self.outage = FailureLog("registration", LOGGER)
        self._declaration = declaration
        self._client = client
        self._lock = asyncio.Lock()

    async def first(self) -> None:
        """Register at the start; any failure is the caller's."""
        self.current = await self._client.register(self._declaration.registration())

    async def again(self, lost: Registration) -> None:
        """Register again unless another task has done so; any failure may be temporary."""
        async with self._lock:
            if self.current is not lost:
                return
            LOGGER.warning(
                "the server no longer knows %s; registering again", self._declaration.name
            )
            try:
                self.current = await self._client.register(self._declaration.registration())
            except FlyteError as error:
                self.outage.failed(error)
                message = f"the pack cannot be registered again: {error}"
                raise UnavailableError(message) from error
            self.outage.recovered()
            LOGGER.info("%s is registered again", self._declaration.name)

    async def call(self, call: Callable[[Registration], Awaitable[T]]) -> T:
        """Call with the current registration; if the server lost it, register and call again."""
        registration = self.current
        if registration is None:
            message = f"{self._declaration.name} is not registered yet"
            raise UnavailableError(message)
        try:
            return await call(registration)
        except NotFoundError:
            await self.again(registration)
        try:
            return await call(self.current or registration)
        except NotFoundError as error:
            message = (
                f"the server does not know the pack, although it was just registered again: {error}"
            )
            raise UnavailableError(message) from error
