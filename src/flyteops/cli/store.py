"""What the commands that work on a store itself share: how one is named, and how it is told what they do."""

import sys
import time
from collections.abc import Mapping

import click

from flyteops.errors import Problem, SettingsError
from flyteops.settings import Settings
from flyteops.storage import is_there, shown, store_faults
from flyteops.storage.portable import Tally

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
"""Seconds between two lines about how far it has come."""


def checked_store(option: str, environ: Mapping[str, str], url: str | None, *, must_be_there: bool) -> str:
    """Return the address of a store, which the environment says when the option does not; raise `SettingsError` if it is none."""
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
        return ["is not there; name the file that the database is in"]
    return list(store_faults(url))


class Progress:
    """Says on a terminal what is done and how far it has come; elsewhere it is silent."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, doing: str, tally: Tally) -> None:
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + EVERY
            click.echo(f"\r\x1b[K{doing}: {contents(tally)}", nl=False, err=True)

    def end(self) -> None:
        """Leave the line to others."""
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def contents(tally: Tally) -> str:
    """Return in words how much there is of what."""
    return ", ".join(f"{count:,} {NOUNS[kind]}" for kind, count in tally.counts.items() if count) or "nothing"
