"""The token of a pack, which may be renewed from outside while the pack runs."""

import logging
from pathlib import Path

from flyteops.sdk.environment import token as read_token

LOGGER = logging.getLogger("flyte.pack")

_State = tuple[int, int, int] | None


class TokenSource:
    """A token, or the file that contains it; the file is read again after a change.

    If a file cannot be read, or holds no token, its previous token stays.
    """

    def __init__(self, value: str | None, file: Path | None = None) -> None:
        self._value = value
        self._file = file
        self._state: _State = (-1, -1, -1)  # of no file, also of one that is missing
        self._fault: str | None = None

    @property
    def value(self) -> str | None:
        """The current token, None if there is none."""
        if self._file is not None and _state(self._file) != self._state:
            self._read(self._file)
        return self._value

    def replaces(self, refused: str | None) -> bool:
        """Read the file again, changed or not.

        Return whether the token differs from a refused one.
        """
        if self._file is not None:
            self._read(self._file)
        return self._value != refused

    def _read(self, file: Path) -> None:
        state = _state(file)
        try:
            self._value = read_token(file.read_text(encoding="utf-8"))
        except OSError as error:
            self._complain(f"cannot read {str(file)!r}: {error.strerror or error}")
        except UnicodeDecodeError:
            self._complain(f"{str(file)!r} is not text")
        except ValueError as error:
            self._complain(f"{str(file)!r} {error}")
        else:
            self._state = state
            if self._fault is not None:
                LOGGER.info("FLYTE_JWT_FILE: the token is readable again")
            self._fault = None

    def _complain(self, fault: str) -> None:
        """Log a fault once; the previous token stays."""
        if fault != self._fault:
            LOGGER.warning("FLYTE_JWT_FILE: %s; keeping the previous token", fault)
        self._fault = fault


def _state(file: Path) -> _State:
    """Return a value that changes with the file, also if a link to another file replaces it."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
