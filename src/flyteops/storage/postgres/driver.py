"""The driver's types, as this package uses them."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection as DriverConnection
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "DriverConnection[Record] | PoolConnectionProxy[Record]"
"""A connection, of its own or from a pool."""

Row: TypeAlias = "Record"
"""A row of a result."""
