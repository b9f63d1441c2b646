"""The connection pool: shared connections, bounds on waiting verbs, and the driver's errors."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import asyncpg

from flyteops.errors import (
    BusyError,
    FlyteError,
    InputError,
    OutcomeUnknownError,
    StoreError,
    UnavailableError,
)
from flyteops.storage import rules
from flyteops.storage.postgres.connector import Connector, is_proxied
from flyteops.storage.postgres.driver import Connection, Row

T = TypeVar("T")

CONNECT_SECONDS = 5.0

REPEATS = 20
"""The maximum number of repeats of a transaction that clashed with another."""

PLAN_EACH_TIME = "SET LOCAL plan_cache_mode TO DEFAULT; SET LOCAL enable_seqscan TO DEFAULT"
"""Plans the following statements of a transaction for their values, unlike `PLANS_ONCE`."""

PATIENCE = 3.0
"""The seconds for which a verb that lost its connection looks for another before it gives up."""

CLASHES = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)
"""Errors of a server that is unavailable, or has gone in the middle."""

UNSTORABLE = (
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,  # too long for an index
    OverflowError,
    UnicodeError,
)
"""Errors for a value that a column cannot hold."""

WRONG = (
    ValueError,  # in the URL
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.SyntaxOrAccessError,
    ssl.SSLError,
)
"""Errors that an operator must fix before the store can be opened."""


FULL = (
    "no more connections allowed",
    "too many clients already",
    "too many connections",
    "remaining connection slots",
)
"""Messages of PostgreSQL and PgBouncer about a limit on connections."""

DIRECT_URL_IS_MISSING = (
    "{name} is a proxy that pools transactions, such as PgBouncer with pool_mode = transaction."
    " Notifications do not pass it, so FLYTE_STORE_DIRECT_URL must name the database itself; or let"
    " the proxy pool sessions."
)

HINTS = (
    (
        "rejected SSL upgrade",
        " The server has TLS switched off: switch it on, or set sslmode=disable in the URL.",
    ),
    (
        "unsupported startup parameter",
        (
            " The proxy refuses options of the URL: leave them out and use ALTER ROLE ... SET, or"
            " add them to ignore_startup_parameters or track_extra_parameters of PgBouncer."
        ),
    ),
    ("in statement pooling mode", " Let PgBouncer pool sessions or transactions."),
)
"""Messages of errors that waiting does not fix, and the advice to give."""


async def _leave(_connection: Connection) -> None:
    """Reset nothing, as no setting is made: the driver's own reset would double the round trips."""


class LostError(Exception):
    """The connection was lost in the middle: the statement may have been carried out or not."""


class Pool:
    """Runs statements. `name` is the database's name in messages.

    `limit` bounds the operations in progress or waiting, `size` those running.
    """

    def __init__(
        self, connector: Connector, name: str, *, size: int, limit: int, prepares: bool
    ) -> None:
        self._connector = connector
        self._name = name
        self._size = size
        self._limit = limit
        self._prepares = prepares
        self._pool: asyncpg.Pool[Row] | None = None
        self._under_way = 0
        self._idle = asyncio.Event()

    async def open(self, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        """Connect, and run `prepare` in a transaction before anything else.

        Raise `StoreError` for a fault that an operator must fix, `UnavailableError` for one that
        may pass.
        """
        try:
            pool = await asyncpg.create_pool(
                # With more, the driver reports to every connection's log that it was lost.
                min_size=0,
                max_size=self._size,
                connect=self._connect,
                reset=_leave,
            )
            try:
                async with self._connection(pool) as connection:
                    await self._check_proxy(connection)
                    async with connection.transaction():
                        await prepare(connection)
            except BaseException:  # on any error, release the connection
                pool.terminate()
                raise
        except (*LOST, asyncpg.PostgresError, ValueError) as error:
            raise self.refusal_to_open(error) from error
        self._pool = pool

    async def _connect(self, *_: object, **__: object) -> "asyncpg.Connection[Row]":
        # A statement cache is of no use behind a proxy that hands out another connection each time.
        return await self._connector.connect(statement_cache_size=200 if self._prepares else 0)

    async def _check_proxy(self, connection: Connection) -> None:
        """Raise `StoreError` if a proxy pools transactions and the direct address is unknown."""
        if not self._prepares:
            return
        async with connection.transaction():
            proxied = await is_proxied(connection)
        if proxied and await self._connector.shares_sessions():
            raise StoreError(DIRECT_URL_IS_MISSING.format(name=self._name))

    async def close(self) -> None:
        """Wait for pending operations, then close the connections; may be called twice."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await pool.close()
        except (*LOST, asyncpg.PostgresError):
            pool.terminate()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work that needs a connection, once.

        Raise `LostError` when it is unknown whether it was done.
        """
        pool = rules.require_open(self._pool)
        rules.require_capacity(self._under_way, self._limit)
        self._under_way += 1
        try:
            for _ in range(REPEATS):
                try:
                    return await self._once(pool, work)
                except CLASHES:
                    continue
            raise BusyError
        except (*LOST, *UNSTORABLE, asyncpg.PostgresError) as error:
            raise self.refusal(error) from error
        finally:
            self._under_way -= 1
            self._idle.set()

    async def _once(
        self, pool: "asyncpg.Pool[Row]", work: Callable[[Connection], Awaitable[T]]
    ) -> T:
        has_begun = False
        try:
            async with self._connection(pool) as connection:
                has_begun = True
                return await self._done(work, connection)
        except LOST as error:
            if not has_begun:
                raise
            # Releasing a connection fails as well, hiding the original error, and then the outcome
            # is unknown, too.
            raise LostError(str(error) or type(error).__name__) from error

    @asynccontextmanager
    async def _connection(self, pool: "asyncpg.Pool[Row]") -> AsyncIterator[Connection]:
        async with pool.acquire(
            timeout=max(CONNECT_SECONDS, self._connector.seconds)
        ) as connection:
            yield connection

    async def _done(self, work: Callable[[Connection], Awaitable[T]], connection: Connection) -> T:
        try:
            return await work(connection)
        except LOST as error:
            raise LostError(str(error)) from error
        except UNSTORABLE:
            # A value that the driver refuses leaves a statement half sent; without its end, the
            # next one would fail.
            with suppress(*LOST, asyncpg.PostgresError):
                await connection.execute("SELECT")
            raise

    async def repeat(
        self, work: Callable[[Connection, bool], Awaitable[T]], *, changes: bool = True
    ) -> T:
        """Run work, and repeat it when its connection was lost, with True as its second argument.

        Work must detect whether it was done before. Raise `OutcomeUnknownError` when it `changes`
        something and none of its tries has been answered.
        """
        is_again = False
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await self.run(lambda connection, again=is_again: work(connection, again))  # type: ignore[misc]
            except LostError as error:
                is_again = True
                if asyncio.get_running_loop().time() > until:
                    raise self._given_up(error, changes=changes) from error
            except UnavailableError as error:
                if not is_again:
                    raise
                if self._pool is None or asyncio.get_running_loop().time() > until:
                    raise self._given_up(error, changes=changes) from error
            await asyncio.sleep(0.05)

    def _given_up(self, error: Exception, *, changes: bool) -> FlyteError:
        refusal = error if isinstance(error, FlyteError) else self.refusal(error)
        if not changes:
            return refusal
        return OutcomeUnknownError(
            f"It is unknown whether the change was made: {refusal.message.removesuffix('.')}."
            " Repeat the request; an event that comes with the same Idempotency-Key is stored"
            " once."
        )

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run read-only work in one snapshot."""

        async def look(connection: Connection, _again: bool) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(PLAN_EACH_TIME)
                return await work(connection)

        return await self.repeat(look, changes=False)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Yield a separate connection for reading one snapshot.

        It may be used for any duration, and the pool need not be open.
        """
        try:
            async with (
                self._connector.opened() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield connection
        except (asyncpg.PostgresError, *LOST) as error:
            raise self.refusal(error) from error

    async def rows(self, statement: str, *values: object) -> Sequence[Row]:
        """Return the rows of one statement that may be repeated."""

        async def look(connection: Connection, _again: bool) -> Sequence[Row]:
            rows: Sequence[Row] = await connection.fetch(statement, *values)
            return rows

        return await self.repeat(look, changes=False)

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work in a transaction that may be repeated as a whole."""
        return await self.transaction_once(lambda connection, _again: work(connection))

    async def transaction_once(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Run work in a transaction; if told that it is repeated, it may have been done before."""

        async def change(connection: Connection, again: bool) -> T:
            async with connection.transaction():
                return await work(connection, again)

        return await self.repeat(change)

    def refusal(self, error: BaseException) -> FlyteError:
        """Translate the driver's error of a verb.

        A fault that an operator must fix may be fixed at the next try.
        """
        if isinstance(error, (asyncpg.UniqueViolationError, asyncpg.CardinalityViolationError)):
            return rules.exists_already(error)
        if isinstance(error, UNSTORABLE):
            return InputError(f"The store cannot keep that: {error}.")
        return UnavailableError(
            f"{self._name} cannot be used at the moment ({self._reason(error)})."
        )

    def refusal_to_open(self, error: BaseException) -> FlyteError:
        """Translate the driver's error when opening."""
        hint = next((hint for text, hint in HINTS if text in str(error)), "")
        if hint or (
            isinstance(error, WRONG)
            and (isinstance(error, ssl.SSLError) or not isinstance(error, OSError))
        ):
            return StoreError(
                f"{self._name} does not let this server work: {self._reason(error)}.{hint}"
            )
        return self.refusal(error)

    def _reason(self, error: BaseException) -> str:
        """Return the driver's message without passwords, and with the file or setting concerned."""
        if isinstance(error, LostError) and error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, TimeoutError):
            return "it does not answer in time"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused ({error.verify_message}); {self._roots()}"
        reason = self._connector.conninfo.hide(str(error).strip()) or type(error).__name__
        if isinstance(error, asyncpg.TooManyConnectionsError) or any(
            text in reason for text in FULL
        ):
            return (
                f"it has no connection left: {reason.removesuffix('.')}; raise the limit there, or"
                f" lower FLYTE_STORE_POOL_SIZE, which is {self._size} for each server process"
            )
        return reason.removesuffix(".")

    def _roots(self) -> str:
        roots = (
            self._connector.conninfo.tls.get("sslrootcert")
            or os.environ.get("PGSSLROOTCERT")
            or "~/.postgresql/root.crt"
        )
        return (
            "the trusted certificates are those of the system"
            if roots == "system"
            else f"the trusted certificates are in {roots}"
        )
