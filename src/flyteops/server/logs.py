"""The server's log: its destination and its format."""

import logging
import os
import time
from contextlib import nullcontext, suppress
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler

from flyteops.errors import Problem, SettingsError
from flyteops.settings import Settings

LOGGER = logging.getLogger("flyte.server")


class Formatter(logging.Formatter):
    """Formats each record, with any content, on one line.

    The lines of a traceback are indented, so that none looks like a record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self.converter = time.gmtime

    # The name is logging's.
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        at = time.strftime("%Y-%m-%dT%H:%M:%S", self.converter(record.created))
        return f"{at}.{int(record.msecs):03d}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        return "\n".join(f"    {escaped(line)}" for line in super().formatException(ei).split("\n"))  # type: ignore[arg-type]


class PrivateFileHandler(WatchedFileHandler):
    """A log file that only its owner may read.

    The permissions of an existing one stay as they are.
    """

    def _open(self) -> TextIOWrapper:
        with suppress(FileExistsError):
            os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return super()._open()


def escaped(text: str) -> str:
    """Return text with everything that is not printable as an escape, line breaks included."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def configure(settings: Settings) -> None:
    """Send the log to standard error or to the file.

    Raise `SettingsError` if that cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler()
    if settings.log_file is not None:
        try:
            handler = PrivateFileHandler(settings.log_file, encoding="utf-8")
        except OSError as error:
            fault = (
                f"{settings.log_file!r} cannot be written: {error.strerror}; give a file in a"
                " directory that exists"
            )
            raise SettingsError(problems=[Problem("LOGFILE", fault)]) from error
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    if settings.log_level != "debug":
        # `flyte serve` logs its start and end better than uvicorn does.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def reopen() -> None:
    """Open the log file again if its name belongs to another file, or none.

    A log on standard error is left alone.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, WatchedFileHandler):
            with handler.lock or nullcontext():
                handler.reopenIfNeeded()
            LOGGER.info("The log file was reopened")
            return
    LOGGER.info("The log goes to standard error; there is no log file to reopen")
