"""Shared parts of the commands on stores: their addresses, and the display of progress."""

import sys
import time
from collections.abc import Mapping

import click

from flyteops.errors import Problem, SettingsError
from flyteops.settings import Settings
from flyteops.storage import is_there, shown, store_faults
from flyteops.storage.record import Tally

STORE, MONGODB = "FLYTE_STORE", "FLYTE_MGO_HOST"

NOUNS = {
    "pack": "packs",
    "version": "versions of flows",
    "flow": "flows",
    "item": "datastore items",
    "note": "notes of the servers",
    "event": "events",
    "action": "actions",
    "key": "keys of events",
}

EVERY = 0.2
"""Seconds between two lines about the progress."""


def checked_store(
    option: str, environ: Mapping[str, str], url: str | None, *, must_be_there: bool
) -> str:
    """Return the address of a store, from the option or else the environment.

    Raise `SettingsError` if it is not valid.
    """
    if url is None:
        known = {name: environ[name] for name in (STORE, MONGODB) if name in environ}
        settings, problems = Settings.read(known)
        name = STORE if settings.mongodb_host is None else MONGODB
    else:
        settings, problems = Settings.read({}, {"store": url})
        name = option
    faults = [problem.message for problem in problems] or [
        f"{shown(settings.store)!r} {fault}" for fault in _faults(settings.store, must_be_there)
    ]
    if faults:
        raise SettingsError(problems=[Problem(name, fault) for fault in faults])
    return settings.store


def _faults(url: str, must_be_there: bool) -> list[str]:
    if must_be_there and not is_there(url):
        return ["does not exist; give the path of the database file"]
    return list(store_faults(url))


class ProgressDisplay:
    """Shows the current operation and its progress on a terminal; elsewhere it is silent."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, doing: str, tally: Tally) -> None:
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + EVERY
            click.echo(f"\r\x1b[K{doing}: {contents(tally)}", nl=False, err=True)

    def end(self) -> None:
        """Clear the line for other output."""
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def contents(tally: Tally) -> str:
    """Return the counts of a tally in words."""
    return (
        ", ".join(f"{count:,} {NOUNS[kind]}" for kind, count in tally.counts.items() if count)
        or "nothing"
    )
