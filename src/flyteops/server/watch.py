"""Files that other programs write while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

LOOK_EVERY = 2.0
"""Seconds between two checks."""

Stamp = tuple[tuple[int, int, int] | None, ...]


class FileWatch:
    """Detects changes of some files since this was made."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) for path in paths]
        self._known = self._seen = self._stamp()

    async def changes(self) -> AsyncIterator[bool]:
        """Check regularly, for ever.

        Yield each time whether a change has been stable for two checks.
        """
        while True:
            before, self._seen = self._seen, self._stamp()
            is_new = self._seen == before != self._known
            self._known = self._seen if is_new else self._known
            yield is_new
            await asyncio.sleep(LOOK_EVERY)

    def _stamp(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
