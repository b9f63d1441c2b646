"""The tenancy of a folder: one `flyte dev` at a time, whose address others can read."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

FILE = "running"


class LockHolder(NamedTuple):
    """The process that runs in a folder, and its server.

    `url` is "" as long as it is still starting.
    """

    process_id: str
    url: str


class FolderLock:
    """A claim on a folder; `other` is the present holder.

    It is released when this process ends, for any reason.
    """

    def __init__(self, directory: Path) -> None:
        self.other: LockHolder | None = None
        self._path = directory / FILE
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.other = _read(self._descriptor)
        except OSError:
            # Some network disks do not support locks; the database has its own way to refuse a
            # second server.
            pass
        else:
            self.tell("")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: removing it would race with the next one.
        os.close(self._descriptor)

    def tell(self, url: str) -> None:
        """Publish the address of the server."""
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {url}\n".encode(), 0)


def _read(descriptor: int) -> LockHolder:
    process_id, _, url = (
        os.pread(descriptor, 1000, 0).decode(errors="replace").strip().partition(" ")
    )
    return LockHolder(process_id or "(unknown)", url)
