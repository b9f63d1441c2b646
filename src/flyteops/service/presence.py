"""Presence of packs: the connected instances, and packs that stopped rather than fell silent."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from flyteops.errors import NotFoundError
from flyteops.model import Note, Pack
from flyteops.storage.base import Store

STOPPED = "pack-stopped"
"""The kind of the notes with the time when the last instance of a pack stopped."""

CONNECTED = timedelta(minutes=2)
"""The time for which a silent instance counts as connected: each reports once a minute."""

MAX_INSTANCES = 1000
"""The largest number of known instances of one pack; the oldest are dropped first."""


class PresenceTracker:
    """The presence that packs report.

    Instances are known to this server alone, and only while they go on reporting.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._instances: dict[str, dict[str, datetime]] = {}
        self._stopped: dict[str, datetime] = {}

    async def load(self, pack_ids: Collection[str]) -> None:
        """Load the times when these packs stopped from the store."""
        stopped: dict[str, datetime] = {}
        for note in await self._store.list_notes(STOPPED):
            # Damaged: the pack counts as silent.
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                if note.key in pack_ids:
                    stopped[note.key] = msgspec.json.decode(note.value, type=datetime)
        self._stopped = stopped

    def report(self, pack_id: str, instance: str, now: datetime) -> int:
        """Record that an instance of a pack is connected; return the number of others."""
        others = self._connected(pack_id, instance, now)
        self._instances[pack_id] = {**dict(list(others.items())[-MAX_INSTANCES:]), instance: now}
        return len(others)

    async def sign_off(self, pack_id: str, instance: str, now: datetime) -> int:
        """Record that an instance stopped, and with the last one the pack.

        Return the number of others.
        """
        others = self._connected(pack_id, instance, now)
        self._instances[pack_id] = others
        if not others:
            self._instances.pop(pack_id)
            await self._store.save_note(Note(STOPPED, pack_id, msgspec.json.encode(now)))
            self._stopped[pack_id] = now
        return len(others)

    async def forget(self, pack_id: str) -> None:
        """Remove all that is known of a pack."""
        self._instances.pop(pack_id, None)
        if self._stopped.pop(pack_id, None) is not None:
            with suppress(NotFoundError):
                await self._store.delete_note(STOPPED, pack_id)

    def of(self, pack: Pack) -> Pack:
        """Return the pack with the time when it stopped, if it was not seen since."""
        stopped_at = self._stopped.get(pack.id)
        if stopped_at is None or stopped_at < pack.last_seen_at:
            return pack
        return msgspec.structs.replace(pack, stopped_at=stopped_at)

    def _connected(self, pack_id: str, besides: str, now: datetime) -> dict[str, datetime]:
        known: Mapping[str, datetime] = self._instances.get(pack_id, {})
        return {each: at for each, at in known.items() if each != besides and now - at < CONNECTED}
