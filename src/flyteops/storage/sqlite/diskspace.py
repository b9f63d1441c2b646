"""Free space on the database's disk, which writes into already allocated space do not check."""

import tempfile
from pathlib import Path

from flyteops.errors import UnavailableError
from flyteops.model import Note

ROOM = 256 * 1024
"""The number of bytes that a disk with enough room must take."""

PROBE = Note("probe", "room", bytes(64 * 1024))
"""The note written and removed again before a database that refused a write is called usable."""


def check_free_space(folder: Path) -> None:
    """Write a nameless file; raise `UnavailableError` if the disk does not take it."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(ROOM))
    except PermissionError:
        return  # no new files, but those of the database are open
    except OSError as error:
        raise UnavailableError(
            f"The disk of the database, at {str(folder)!r}, cannot be written: {error.strerror}."
            " Make room, or put it right."
        ) from error
