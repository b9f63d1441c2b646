"""Flyte's stores: one port (`base`), one module for each backend."""

import os
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from flyteops.errors import Problem, SettingsError
from flyteops.storage.base import Store
from flyteops.storage.conninfo import conninfo_faults, shown_uri

__all__ = ["is_postgres", "is_shared", "is_there", "open_store", "shown", "store_faults"]


POSTGRES = ("postgresql", "postgres")
MONGODB = ("mongodb", "mongodb+srv")

POOL_SIZE = 10
"""The default number of shared connections to PostgreSQL."""


def open_store(  # noqa: PLR0913 - options of different backends, by keyword
    url: str,
    *,
    keep_for: timedelta | None = None,
    direct_url: str | None = None,
    pool_size: int | None = None,
    max_log_bytes: int | None = None,
    scratch: Path | None = None,
) -> Store:
    """Return the store that a URL names, not opened yet.

    ``sqlite:///relative.db`` or ``sqlite:////absolute.db``, whose path is taken as it is written:
    nothing in it is decoded, and nothing after it is an option.
    ``postgresql://user:password@host:5432/database``, with options as PostgreSQL's own programs
    have them. ``mongodb://user:password@host:27017/database``, and ``mongodb+srv://``, with options
    as MongoDB has them.

    `keep_for` is for a store whose server removes older data by itself, `direct_url` leads to a
    PostgreSQL past a proxy, and `pool_size` is the number of shared connections to it.
    `max_log_bytes` and `scratch` are for a store in a file: see `SqliteStore`.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite(url, rest, max_log_bytes, scratch)
    if is_postgres(url):
        return _postgres(url, direct_url, pool_size)
    if scheme in MONGODB:
        return _mongodb(url, keep_for)
    raise _refusal(
        f"is {shown(url)!r}; a store is named as sqlite:///relative/path.db,"
        " sqlite:////absolute/path.db, postgresql://user:password@host/database or"
        " mongodb://user:password@host/database"
    )


def is_postgres(url: str) -> bool:
    """Return whether a store is a PostgreSQL database."""
    return url.partition("://")[0] in POSTGRES


def shown(url: str) -> str:
    """Return the URL of a store as is safe to show: without its password and options."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "sqlite":
        return url
    if scheme in POSTGRES:
        return shown_uri(url)
    # Before the options are cut off: a password may hold a ?
    account, _, place = rest.rpartition("@")
    user, place = account.partition(":")[0], place.partition("?")[0]
    return f"{scheme}://{user}@{place}" if user else f"{scheme}://{place}"


def _postgres(url: str, direct_url: str | None, pool_size: int | None) -> Store:
    # A backend is loaded only where it is used.
    from flyteops.storage.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(url, direct_url=direct_url, name=shown(url), size=pool_size or POOL_SIZE)


def _mongodb(url: str, keep_for: timedelta | None) -> Store:
    # A backend is loaded only where it is used.
    from flyteops.storage.mongodb import MongoStore  # noqa: PLC0415

    return MongoStore(url, name=shown(url), keep_for=keep_for)


def _sqlite(url: str, rest: str, max_log_bytes: int | None, scratch: Path | None) -> Store:
    # A backend is loaded only where it is used.
    from flyteops.storage.sqlite import SqliteStore  # noqa: PLC0415

    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.endswith("/") or path == ":memory:":
        raise _refusal(
            f"is {url!r}; the path of a file must follow sqlite:///, as in sqlite:///flyte.db"
        )
    bound = {} if max_log_bytes is None else {"max_log_bytes": max_log_bytes}
    return SqliteStore(path, scratch=scratch, **bound)


def path_of(url: str) -> str:
    """Return the path in the URL of a store in a file."""
    return url.partition("://")[2].removeprefix("/")


def is_shared(url: str) -> bool:
    """Return whether several servers may use the store at the same time."""
    return url.partition("://")[0] != "sqlite"


def is_there(url: str) -> bool:
    """Return whether a store to read from exists, as far as can be seen without opening it."""
    return is_shared(url) or Path(path_of(url)).is_file()


def store_faults(url: str) -> Iterator[str]:
    """Yield the faults of a store's location that can be seen without opening it."""
    for schemes, driver, extra in (
        (POSTGRES, "asyncpg", "postgres"),
        (MONGODB, "pymongo", "mongodb"),
    ):
        if url.partition("://")[0] in schemes:
            if find_spec(driver) is None:
                yield (
                    "needs a driver that is not installed; "
                    f'run pip install -e ".[server,{extra}]" in the folder of Flyte\'s source'
                )
            elif driver == "asyncpg":
                yield from conninfo_faults(url)
            return
    path = Path(path_of(url))
    folder = path.parent
    if path.exists() and not path.is_file():
        yield "is not a file; name the database file, or the file to create"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield "cannot be written; the server must be allowed to read and write it"
    elif folder.exists() and not folder.is_dir():
        yield f"cannot be created: {str(folder)!r} is not a directory"
    elif folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        yield f"cannot be used: the server may not write in {str(folder)!r}"
    elif not folder.exists() and not folder.parent.is_dir():
        yield (
            f"cannot be created: there is no directory {str(folder.parent)!r}"
            + ("" if path.is_absolute() else "; an absolute path has four slashes")
        )


def _refusal(fault: str) -> SettingsError:
    return SettingsError(f"The store {fault}.", problems=[Problem("store", fault)])
