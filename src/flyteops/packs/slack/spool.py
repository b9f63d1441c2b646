"""The spool: acknowledged occurrences on disk until Flyte has them.

A pack that was killed finds them again.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

LOGGER = logging.getLogger("flyte.slack")

_SECRETS = frozenset(["token", "response_url", "response_urls", "authorizations", "authed_users"])
"""Keys of an envelope that give access to something, and that no event needs."""


class Spooled(msgspec.Struct, frozen=True, rename="camel"):
    """An envelope of Slack, and the occurrence in it that is not delivered yet."""

    key: str
    kind: str
    envelope_id: str
    payload: dict[str, Any]


class Spool:
    """A folder with a file for each occurrence, readable by its owner only.

    Files are complete or do not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._lock = asyncio.Lock()

    async def keep(self, spooled: Spooled) -> bool:
        """Write an occurrence to disk; return whether it is safe."""
        async with self._lock:
            try:
                if spooled.key not in self._files:
                    self._files[spooled.key] = await asyncio.to_thread(self._write, spooled)
            except OSError as error:
                message = "%s cannot be kept in %s: %s; waiting for Slack to send it again"
                LOGGER.error(message, spooled.key, self._folder, error)
                return False
        return True

    def remove(self, key: str) -> None:
        """Remove an occurrence that was delivered."""
        path = self._files.pop(key, None)
        if path is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                LOGGER.warning(
                    "%s cannot be removed, so it is sent again after a start: %s", path, error
                )

    def read(self) -> Iterator[Spooled]:
        """Return the occurrences of an earlier run, oldest first.

        Unreadable files stay, and are reported.
        """
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                spooled = msgspec.json.decode(path.read_bytes(), type=Spooled)
            except (OSError, msgspec.DecodeError) as error:
                LOGGER.error("%s cannot be read, and is kept: %s", path, error)
                continue
            self._files[spooled.key] = path
            yield spooled

    def _write(self, spooled: Spooled) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{hashlib.sha256(spooled.key.encode()).hexdigest()[:16]}"
        path, new = self._folder / f"{name}.json", self._folder / f"{name}.new"
        payload = {key: value for key, value in spooled.payload.items() if key not in _SECRETS}
        content = msgspec.json.encode(msgspec.structs.replace(spooled, payload=payload))
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path


def default_folder(environ: Mapping[str, str], app: str) -> Path | None:
    """Return the folder for such data of a user's programs, for each server and app.

    None if unknown. It does not depend on the token: a new one finds the files of the old one.
    """
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if not state and not home:
        return None
    of = "\n".join([environ.get("FLYTE_API", ""), environ.get("PACK_NAME", ""), app])
    base = Path(state) if state else Path(home) / ".local/state"
    return base / "flyte" / f"slack-{hashlib.sha256(of.encode()).hexdigest()[:12]}"
