"""The identity of the tables: a check that they are still those that the store was opened on.

Dropped tables are an error of every statement, but others may recreate them (a server that is
started, say), or empty them. So a row has a random number, which is checked in the statement that
stores events, and wherever a record is not found.
"""

import re

from flyteops.errors import UnavailableError
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.queries import SQL
from flyteops.storage.postgres.schema import MIGRATIONS, NUMBERS

TABLES = tuple(re.findall(r"CREATE TABLE (flyte_\w+)", " ".join((NUMBERS, *MIGRATIONS))))
"""All tables of the newest version."""

FAULT = (
    "{name} holds another store than the one that this server was started on, or was emptied: it"
    " was dropped, made anew or truncated while the server ran. All work is refused, so that"
    " nothing is accepted that would be lost. Restore a backup if there is one, then restart the"
    " server."
)


async def read_identity(connection: Connection) -> int | None:
    """Return the number that distinguishes the store from all others."""
    found: int | None = await connection.fetchval(SQL.store_number)
    return found


async def check_tables(connection: Connection) -> None:
    """Raise `UnavailableError` if tables are missing."""
    rows = await connection.fetch(SQL.missing_tables, list(TABLES))
    if rows:
        missing = ", ".join(name for (name,) in rows)
        raise UnavailableError(
            f"Tables were dropped from the database: {missing}. Restore a backup, and restart the"
            " server."
        )


def check_identity(found: int | None, known: int | None, name: str) -> None:
    """Raise `UnavailableError` if the store is not the known one."""
    if found != known:
        raise UnavailableError(FAULT.format(name=name))
