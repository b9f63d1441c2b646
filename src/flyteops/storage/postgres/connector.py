"""The opening of connections: one host after the other, with the options of the connection URI."""

import asyncio
import contextlib
import os
import random
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from flyteops.storage.conninfo import Conninfo, Host, Keepalive
from flyteops.storage.postgres.driver import Connection, Row
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.postgres", "connector")

STATEMENT_SECONDS = 15.0
"""The seconds that a statement may take before the server counts as not answering."""

PROBE_SECONDS = 3.0

PLANS_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
"""Settings for prepared statements.

Each is planned once for a connection, for values of any number and for tables of any size. By
itself PostgreSQL plans most of them anew at each execution, since the values are arrays of
different lengths, and reads whole tables as long as it has not noticed that they have grown.
"""

NEXT_HOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Errors after which another host of the URI is tried."""

KEEPALIVE_OPTIONS = (
    ("idle", "TCP_KEEPIDLE"),
    ("interval", "TCP_KEEPINTVL"),
    ("count", "TCP_KEEPCNT"),
    ("user_timeout", "TCP_USER_TIMEOUT"),
)


class Connector:
    """Opens connections to the first host that accepts them, beginning with the last used one.

    Unless it `pools_transactions`, every connection gets the settings of the URI by a statement:
    PgBouncer refuses most of them as parameters of the startup packet.
    """

    def __init__(self, conninfo: Conninfo, *, pools_transactions: bool = False) -> None:
        self.conninfo = conninfo
        self._pools_transactions = pools_transactions
        hosts = list(conninfo.hosts)
        if conninfo.is_shuffled:
            random.shuffle(hosts)
        self._hosts: list[Host | None] = [*hosts] or [None]

    @property
    def seconds(self) -> float:
        """The maximum duration of `connect`."""
        return self.conninfo.connect_timeout * len(self._hosts)

    async def connect(self, *, statement_cache_size: int = 0) -> "asyncpg.Connection[Row]":
        """Return a new connection; raise the last host's error."""
        *others, last = list(self._hosts)
        for host in others:
            with contextlib.suppress(*NEXT_HOST):
                return await self._connect_first(host, statement_cache_size)
        return await self._connect_first(last, statement_cache_size)

    async def _connect_first(
        self, host: Host | None, statement_cache_size: int
    ) -> "asyncpg.Connection[Row]":
        connection = await self._connect_to(host, statement_cache_size)
        self._hosts.sort(key=lambda each: each is not host)
        return connection

    async def _connect_to(
        self, host: Host | None, statement_cache_size: int
    ) -> "asyncpg.Connection[Row]":
        conninfo = self.conninfo
        options: dict[str, Any] = dict(conninfo.driver)
        if host is not None:
            options |= {"host": host.name, "port": host.port}
        if conninfo.uses_system_roots:
            options["ssl"] = system_context(conninfo)
        startup = dict(conninfo.startup) | (
            dict(conninfo.settings) if self._pools_transactions else {}
        )
        connection: asyncpg.Connection[Row] = await asyncpg.connect(
            None if conninfo.uses_system_roots else conninfo.tls_uri or None,
            **options,
            user=conninfo.user,
            password=conninfo.password,
            database=conninfo.database,
            timeout=conninfo.connect_timeout,
            command_timeout=STATEMENT_SECONDS,
            statement_cache_size=statement_cache_size,
            server_settings={"application_name": "flyte", **startup},
        )
        try:
            keep_alive(connection, conninfo.keepalive)
            if not self._pools_transactions:
                await connection.execute(self._settings(prepares=statement_cache_size > 0))
        except BaseException:  # cancelled, for example: nothing else refers to the connection
            connection.terminate()
            raise
        return connection

    def _settings(self, *, prepares: bool) -> str:
        own = {"jit": "off", **(PLANS_ONCE if prepares else {})}
        settings = {**own, **self.conninfo.settings}
        calls = (
            f"set_config({literal(name)}, {literal(value)}, false)"
            for name, value in settings.items()
        )
        return "SELECT " + ", ".join(calls)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["asyncpg.Connection[Row]"]:
        """Yield a connection that is closed at the end in any case."""
        connection = await self.connect()
        try:
            yield connection
        finally:
            with contextlib.suppress(*NEXT_HOST, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1)

    async def shares_sessions(self) -> bool:
        """Return whether a proxy runs one client's transactions on a connection shared with others.

        A setting made by one of two connections must be kept for it, and hidden from the other.
        """
        mark = secrets.token_hex(8)
        async with self.opened() as one, self.opened() as two:
            await one.execute(f"SELECT set_config('flyte.probe', '{mark}', false)")
            try:
                async with asyncio.timeout(PROBE_SECONDS), two.transaction():
                    if await two.fetchval(SQL.probe) == mark:
                        return True
                    async with one.transaction():
                        return bool(await one.fetchval(SQL.probe) != mark)
            except TimeoutError:
                return True  # the proxy lets one transaction wait for the end of the other


async def is_proxied(connection: Connection) -> bool:
    """Return whether the server process differs from the one announced when connecting."""
    return bool(connection.get_server_pid() != await connection.fetchval(SQL.process_id))


def literal(text: str) -> str:
    """Return a text as an SQL literal, for statements that are sent without parameters."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"


def system_context(conninfo: Conninfo) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the operating system."""
    context = ssl.create_default_context()
    if "sslcert" in conninfo.tls:
        context.load_cert_chain(
            conninfo.tls["sslcert"], conninfo.tls.get("sslkey"), conninfo.tls.get("sslpassword")
        )
    return context


def keep_alive(connection: "asyncpg.Connection[Row]", keepalive: Keepalive) -> None:
    """Set the TCP keepalive options of a connection, as far as the system has them."""
    # The driver has no other way to its socket.
    transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    number = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(number)) as own:
        if own.family not in (socket.AF_INET, socket.AF_INET6):
            return
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive.is_on)
        for field, option in KEEPALIVE_OPTIONS:
            value = getattr(keepalive, field)
            if value is not None and hasattr(socket, option):
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
