"""The delivery of results and events: repeated until the server has accepted or refused them."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from flyteops.errors import (
    ConflictError,
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.retry import FailureLog, describe, retry_call
from flyteops.sdk.client import ClaimedAction, Client
from flyteops.sdk.clock import Clock
from flyteops.sdk.event import Event, fatal
from flyteops.sdk.execution import failure_event
from flyteops.sdk.registrar import Registrar
from flyteops.timeformat import format_timestamp

LOGGER = logging.getLogger("flyte.pack")


class Submission(NamedTuple):
    """Whether a result came in time, and the actions that came with the answer."""

    in_time: bool
    actions: Sequence[ClaimedAction] = ()


class Delivery:
    """Delivers results and events; `results` and `events` are their outages."""

    def __init__(self, client: Client, clock: Clock, registrar: Registrar) -> None:
        self.results = FailureLog("result", LOGGER)
        self.events = FailureLog("event", LOGGER)
        self._client = client
        self._clock = clock
        self._registrar = registrar

    async def submit_result(self, action: ClaimedAction, event: Event, take: int = 0) -> Submission:
        """Deliver a result until it is accepted or definitely refused.

        FATAL takes the place of one that cannot be accepted. With `take`, the answer can bring so
        many further actions.
        """
        try:
            return await self._complete(action, event, take)
        except InputError as error:
            reason = describe(error).removesuffix(".")
            LOGGER.error(
                "the result of %s was refused: %s; sending FATAL instead", action.command, reason
            )
            return await self._submit_refused(
                action, f"the server refused the result of {action.command}: {describe(error)}"
            )

    async def _submit_refused(self, action: ClaimedAction, reason: str) -> Submission:
        """Deliver FATAL with a reason, or without if that is refused, as for a tiny body limit."""
        for event in (failure_event(reason), fatal()):
            try:
                return await self._complete(action, event)
            except InputError as error:
                LOGGER.error(
                    "FATAL as the result of %s was refused: %s", action.command, describe(error)
                )
        return Submission(in_time=True)

    async def _complete(self, action: ClaimedAction, event: Event, take: int = 0) -> Submission:
        body, outage = encode_event(event, self._clock.now()), self.results
        try:
            actions = await retry_call(
                lambda: self._post_result(action, body, take),
                pause=self._clock.back_off,
                outage=outage,
            )
        except InputError:
            outage.reset()
            raise
        except FlyteError as error:
            outage.reset()
            LOGGER.error(
                "the result of %s was rejected and is dropped: %s", action.command, describe(error)
            )
            return Submission(in_time=not isinstance(error, ConflictError))
        return Submission(True, actions)

    async def _post_result(
        self, action: ClaimedAction, body: bytes, take: int
    ) -> list[ClaimedAction]:
        """Post a result; raise `UnavailableError` if time, a new token or registration may help.

        That includes a token that lacks a right: it was enough to take the action.
        """
        registration = self._registrar.current
        try:
            try:
                return await self._client.complete(action, body, take=take)
            except NotFoundError:  # possibly the pack is unknown, and not the action
                if registration is None:
                    raise
                await self._registrar.again(registration)
                return await self._client.complete(action, body, take=take)
        except (UnauthorizedError, ForbiddenError) as error:
            raise _token_refused(error) from error
        except FlyteError:
            raise
        except Exception as error:  # of the client's libraries
            raise UnavailableError(describe(error)) from error

    async def deliver_event(self, body: bytes, key: str) -> None:
        """Deliver an event until it is accepted or refused; repetitions have the same key."""
        outage = self.events  # the response may get lost after the event was stored, hence the key
        try:
            await retry_call(
                lambda: self._post_event(body, key), pause=self._clock.back_off, outage=outage
            )
        finally:
            outage.reset()

    async def _post_event(self, body: bytes, key: str) -> None:
        try:
            await self._registrar.call(
                lambda registration: self._client.send(registration, body, key=key)
            )
        except UnauthorizedError as error:
            raise _token_refused(error) from error


def _token_refused(error: UnauthorizedError | ForbiddenError) -> UnavailableError:
    """Return the error for a refused token: a new one may come, and nothing is lost until then."""
    return UnavailableError(f"the server does not accept the token: {describe(error)}")


def encode_event(event: Event, created_at: datetime) -> bytes:
    """Return the body of an event or a result."""
    try:
        body = {
            "event": event.name,
            "payload": event.payload,
            "createdAt": format_timestamp(created_at),
        }
        return msgspec.json.encode(body | {"failure": True} if event.failure else body)
    # The payload was changed afterwards.
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the payload of {event.name} cannot be written as JSON: {error}"
        raise InputError(message) from error
