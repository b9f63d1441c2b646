"""Where Flyte keeps what it was told: one port (`base`), one module for each backend."""

from flyteops.errors import Problem, SettingsError
from flyteops.storage.base import Store

__all__ = ["open_store"]


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


def _refusal(fault: str) -> SettingsError:
    return SettingsError(f"The store {fault}.", problems=[Problem("store", fault)])
