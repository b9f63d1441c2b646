"""Where Flyte keeps what it was told: one port (`base`), one module for each backend."""

import os
from collections.abc import Iterator
from pathlib import Path

from flyteops.errors import Problem, SettingsError
from flyteops.storage.base import Store

__all__ = ["open_store", "store_faults"]


def open_store(url: str) -> Store:
    """Return the store that a URL names, not opened yet: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    The path is taken as it is written: nothing in it is decoded, and nothing after it is an option.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite(url, rest)
    raise _refusal(f"is {url!r}; a store is named as sqlite:///relative/path.db or sqlite:////absolute/path.db")


def _sqlite(url: str, rest: str) -> Store:
    from flyteops.storage.sqlite import SqliteStore  # noqa: PLC0415 - a backend is loaded only where it is used

    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.endswith("/") or path == ":memory:":
        raise _refusal(f"is {url!r}; the path of a file must follow sqlite:///, as in sqlite:///flyte.db")
    return SqliteStore(path)


def path_of(url: str) -> str:
    """Return the path in the URL of a store in a file."""
    return url.partition("://")[2].removeprefix("/")


def store_faults(url: str) -> Iterator[str]:
    """Yield what is wrong with the place that a store's URL names, as far as can be seen without opening it."""
    path = Path(path_of(url))
    folder = path.parent
    if path.exists() and not path.is_file():
        yield "is no file; name the file that the database is in, or will be"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield "cannot be written; the server must be allowed to read and write it"
    elif folder.exists() and not folder.is_dir():
        yield f"cannot be: {str(folder)!r} is no directory"
    elif folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        yield f"cannot be used: the server may not write in {str(folder)!r}"
    elif not folder.exists() and not folder.parent.is_dir():
        yield f"cannot be created: there is no directory {str(folder.parent)!r}"


def _refusal(fault: str) -> SettingsError:
    return SettingsError(f"The store {fault}.", problems=[Problem("store", fault)])
