"""Files that somebody else writes while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

LOOK_EVERY = 2.0
"""Seconds between two looks."""

Stamp = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """Sees when one of some files has changed since this was made."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) for path in paths]
        self._known = self._seen = self._stamp()

    async def changes(self) -> AsyncIterator[bool]:
        """Look now and then, for ever; yield each time whether there is something new, which has been the same for two looks."""
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
