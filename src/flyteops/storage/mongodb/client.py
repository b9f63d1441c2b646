"""The client: bounds on concurrent operations, and translation of the driver's errors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC
from functools import partial
from typing import Any, TypeVar

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidDocument
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from flyteops.errors import (
    FlyteError,
    InputError,
    OutcomeUnknownError,
    StoreError,
    TooLargeError,
    UnavailableError,
)
from flyteops.storage import rules
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.url import OriginalUrl

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.store")

DATABASE = "flyte"
"""The database when the URL names none, as in the original."""

OLDEST = (4, 4)
"""The oldest server version known to have every feature used."""

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""The seconds that an operation may take before the server counts as not answering."""

PATIENCE = 3.0
"""The seconds for which a verb that lost its connection is retried before it gives up."""

FORBIDDEN = (13, 18, 8000)
"""The server's codes for wrong credentials and missing rights."""

DUPLICATE = (11000, 11001, 12582)
TOO_LARGE = (10334, 17419, 17420, 17280)

NOW_NOT = (6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436)
"""The server's codes for transient errors: no primary, shutting down, too slow."""

FAULTS = (PyMongoError, BSONError, OverflowError, RecursionError, UnicodeError)
"""Errors of the driver, and those it lets through for a value that BSON cannot represent."""

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

UNKNOWN_COMMAND = 59


async def ask_server(database: Database) -> dict[str, Any]:
    """Return the server's description of itself, including its time."""
    try:
        told: dict[str, Any] = await database.command("hello", codec_options=OPTIONS)
    except OperationFailure as error:
        if error.code != UNKNOWN_COMMAND:
            raise
        told = await database.command("isMaster", codec_options=OPTIONS)  # its name before 4.4.2
    return told


WRITES = frozenset(
    ["insert", "update", "delete", "findAndModify", "bulkWrite", "commitTransaction"]
)
"""The commands that change something, as the driver reports them."""

SENT: ContextVar[list[str] | None] = ContextVar("sent", default=None)
"""The writes sent so far by the present verb: if its answer is lost, its outcome is unknown."""


class SentWrites(CommandListener):
    """Records the writes of each verb at the moment when they are sent."""

    def started(self, event: CommandStartedEvent) -> None:
        sent = SENT.get()
        if sent is not None and event.command_name in WRITES:
            sent.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


class DatabaseClient:
    """Runs operations on the database that the URL names. `name` is its name in messages."""

    def __init__(self, url: str, name: str, *, limit: int) -> None:
        self._url = url
        self._name = name
        self._limit = limit
        self._client: AsyncMongoClient[dict[str, Any]] | None = None
        self._database: Database | None = None
        self._under_way = 0
        self.warning = ""
        self._idle = asyncio.Event()
        self.gate: Callable[[], None] = lambda: None
        """Raises when no more operations may run."""

    async def open(self) -> None:
        """Connect to the server.

        Raise `StoreError` for a fault that an operator must fix, `UnavailableError` for one that
        may pass.
        """
        try:
            self._client = AsyncMongoClient(
                self._url,
                appname="flyte",
                serverSelectionTimeoutMS=int(CONNECT_SECONDS * 1000),
                connectTimeoutMS=int(CONNECT_SECONDS * 1000),
                socketTimeoutMS=int(ANSWER_SECONDS * 1000),
                w="majority",
                journal=True,
                readConcernLevel="local",
                event_listeners=[SentWrites()],
            )
            self._database = self._client.get_default_database(DATABASE, codec_options=OPTIONS)
            if isinstance(self._url, OriginalUrl):
                self._database = await self._chosen(self._client, self._url.named_database)
            version = (await self._client.server_info())["versionArray"]
        except (PyMongoError, ValueError) as error:
            await self._let_go()
            raise self.refusal(error) from error
        if tuple(version[:2]) < OLDEST:
            await self._let_go()
            raise StoreError(
                f"MongoDB {version[0]}.{version[1]} is too old; {OLDEST[0]}.{OLDEST[1]} or later is"
                " needed."
            )

    async def _chosen(self, client: AsyncMongoClient[Document], named: str) -> Database:
        """Return the database of the original, unless it is empty and the named one is not.

        Earlier versions of this server used the named database.
        """
        original, other = (
            client.get_database(each, codec_options=OPTIONS) for each in (DATABASE, named)
        )
        if not await _holds_something(other):
            return original
        used = original if await _holds_something(original) else other
        why = ", where there is something as well"
        if used is not original:
            why = f", as there is nothing in {DATABASE!r}"
        self.warning = (
            f"FLYTE_MGO_HOST names the database {named!r}, which holds flows, packs or actions of"
            f" Flyte, but the original always uses {DATABASE!r}. The database {used.name!r} is"
            f" used{why}; set FLYTE_STORE=mongodb://HOST/{named} instead of FLYTE_MGO_HOST to use"
            f" {named!r} in any case."
        )
        LOGGER.warning("%s", self.warning)
        return used

    async def close(self) -> None:
        """Wait for pending operations, then close the connection; may be called twice."""
        self._database = None
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self._let_go()

    async def _let_go(self) -> None:
        client, self._client, self._database = self._client, None, None
        if client is not None:
            await client.close()

    async def run(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Run work on the database, once."""
        return await self._run(work, [])

    async def _run(self, work: Callable[[Database], Awaitable[T]], sent: list[str]) -> T:
        database = rules.require_open(self._database)
        self.gate()
        rules.require_capacity(self._under_way, self._limit)
        self._under_way += 1
        before = SENT.set(sent)
        try:
            return await work(database)
        except FAULTS as error:
            refusal = self.refusal(error)
            raise (
                _unknown(refusal) if sent and isinstance(refusal, UnavailableError) else refusal
            ) from error
        finally:
            SENT.reset(before)
            self._under_way -= 1
            self._idle.set()

    async def repeat(self, work: Callable[[Database, bool], Awaitable[T]]) -> T:
        """Run work, and repeat it when its connection was lost, with True as its second argument.

        It must detect a repeat.
        """
        is_again = False
        sent: list[str] = []
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await self._run(partial(_once, work, is_again), sent)
            except UnavailableError as error:
                if not isinstance(error.__cause__, AutoReconnect) or self._database is None:
                    raise
                if asyncio.get_running_loop().time() > until:
                    raise
                is_again = True
            await asyncio.sleep(0.05)

    async def read(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Run work that may be repeated."""
        return await self.repeat(lambda database, _again: work(database))

    async def stream(self, work: Callable[[Database], AsyncIterator[T]]) -> AsyncIterator[T]:
        """Yield the items of `work`."""
        try:
            async for each in work(rules.require_open(self._database)):
                yield each
        except FAULTS as error:
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> FlyteError:
        """Translate the driver's error."""
        if isinstance(
            error, (BSONError, OverflowError, RecursionError, UnicodeError, InvalidDocument)
        ):
            return (
                _too_large()
                if isinstance(error, DocumentTooLarge)
                else InputError(f"The store cannot keep that: {error}.")
            )
        if isinstance(error, (InvalidURI, ValueError)):  # whose text may hold a password
            return StoreError(
                f"{self._name} is not the address of a MongoDB server; give"
                " mongodb://user:password@host:27017/database, special characters in user and"
                " password percent-encoded."
            )
        if isinstance(error, ConfigurationError):
            return StoreError(f"{self._name} cannot be used: {error}.")
        if isinstance(error, OperationFailure):
            return self._refused(_code_of(error), _said(error))
        if isinstance(error, ConnectionFailure):
            return UnavailableError(f"{self._name} cannot be used at the moment ({_said(error)}).")
        return FlyteError(f"{self._name} does not understand this server: {_said(error)}.")

    def _refused(self, code: int | None, said: str) -> FlyteError:
        if code in DUPLICATE:
            return rules.exists_already(said)
        if code in FORBIDDEN:
            return StoreError(f"{self._name} does not let this server work: {said}.")
        if code in TOO_LARGE:
            return _too_large()
        if code in NOW_NOT:
            return UnavailableError(f"{self._name} cannot be used at the moment ({said}).")
        return FlyteError(f"{self._name} does not understand this server: {said}.")


async def _holds_something(database: Database) -> bool:
    """Return whether a database holds data of Flyte; False if it may not be inspected."""
    try:
        return any(
            [
                await database[name].find_one({}, {"_id": 1})
                for name in ("flow", "pack", "action", "datastore")
            ]
        )
    except OperationFailure:
        return False


async def _once(
    work: Callable[[Database, bool], Awaitable[T]], is_again: bool, database: Database
) -> T:
    return await work(database, is_again)


def _unknown(refusal: FlyteError) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"It is unknown whether the change was made: {refusal.message.removesuffix('.')}. Repeat"
        " the request; an event that comes with the same Idempotency-Key is stored once."
    )


def _too_large() -> TooLargeError:
    return TooLargeError(
        "That is more than MongoDB keeps in one document (16 MiB), with what belongs to it; nothing"
        " was stored."
    )


def _code_of(error: OperationFailure) -> int | None:
    if not isinstance(error, BulkWriteError):
        return error.code
    codes: list[int] = [each["code"] for each in (error.details or {}).get("writeErrors", ())]
    return next(
        (code for code in codes if code not in DUPLICATE), codes[0] if codes else error.code
    )


def _said(error: Exception) -> str:
    text = str(error)
    for end in (", full error:", ", Timeout:", " (configured timeouts:"):
        text = text.partition(end)[0]
    return text or type(error).__name__
