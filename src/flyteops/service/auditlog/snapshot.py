"""Resource snapshots for the audit log: as last recorded, and as stored now."""

from collections.abc import Mapping
from contextlib import aclosing

import msgspec

from flyteops.engine.completion import Resolution
from flyteops.model import Action, DataItem, Flow, Note, Pack, pack_id
from flyteops.service.auditlog.entry import (
    BASE,
    KIND,
    ChainVerifier,
    Difference,
    ResourceKey,
    ResourceState,
    compare_states,
    resource_key,
)
from flyteops.service.hook.hook import HOOK, Hook
from flyteops.service.token import TOKEN, Token
from flyteops.service.vault import KIND as SECRET
from flyteops.service.vault import EncryptedSecret
from flyteops.storage.base import Store
from flyteops.storage.record import (
    Stored,
    StoredEvent,
    StoredFlow,
    StoredItem,
    StoredNote,
    StoredPack,
    StoredVersion,
)

JSON = "application/json"

_encode = msgspec.json.Encoder(order="deterministic").encode


def flow_state(flow: Flow) -> ResourceState:
    """Return the state of a flow."""
    return ResourceState.of(JSON, _encode(flow))


def pack_state(pack: Pack) -> ResourceState:
    """Return the state of a pack: its declaration, without the time when it was seen."""
    return ResourceState.of(JSON, _encode(pack.declaration))


def item_state(item: DataItem) -> ResourceState:
    """Return the state of a datastore item that is not secret."""
    return ResourceState.of(item.content_type, item.value, item.description)


def action_state(action: Action) -> ResourceState:
    """Return the state of an action before a person resolves it."""
    said = {
        "state": action.state,
        "command": action.name,
        "pack": pack_id(action.pack_name, action.pack_labels),
        "flow": action.flow_name,
        "step": action.step_id,
        "execution": action.correlation_id,
    }
    return ResourceState.of(JSON, _encode(said))


def resolution_state(
    resolution: Resolution, event: str | None, payload: bytes | None
) -> ResourceState:
    """Return the state of an action that a person resolved."""
    given = {
        "resolution": resolution,
        "event": event,
        "payload": None if payload is None else msgspec.Raw(payload),
    }
    return ResourceState.of(
        JSON, _encode({name: value for name, value in given.items() if value is not None})
    )


def _of_note(note: Note, kind: type[EncryptedSecret | Token | Hook]) -> ResourceState:
    try:
        return msgspec.json.decode(note.value, type=kind).state
    except (msgspec.MsgspecError, UnicodeDecodeError):  # damaged
        return ResourceState.of("application/octet-stream", note.value)


class AuditSnapshot:
    """Collects the chain of entries and the stored states from records, up to the notes."""

    def __init__(self, chain: ChainVerifier) -> None:
        self.chain = chain
        self.states: dict[ResourceKey, ResourceState] = {}
        self._flows: dict[str, Flow] = {}

    def add(self, record: Stored) -> bool:
        """Add the next record; return whether further records matter."""
        match record:
            case StoredPack(pack):
                self.states[resource_key("pack", pack.id)] = pack_state(pack)
            case StoredVersion(version):
                self._flows[version.uuid] = version.flow
            case StoredFlow(name, uuid) if uuid in self._flows:
                self.states[resource_key("flow", name)] = flow_state(self._flows[uuid])
            case StoredItem(item):
                self.states[resource_key("datastore", item.key)] = item_state(item)
            case StoredNote(note) if note.kind == BASE:
                self.chain.begin(note)
            case StoredNote(note) if note.kind == KIND:
                self.chain.add(note)
            case StoredNote(note) if note.kind == SECRET:
                self.states[resource_key("datastore", note.key)] = _of_note(note, EncryptedSecret)
            case StoredNote(note) if note.kind == TOKEN:
                self.states[resource_key("token", note.key)] = _of_note(note, Token)
            case StoredNote(note) if note.kind == HOOK:
                self.states[resource_key("hook", note.key)] = _of_note(note, Hook)
        return not isinstance(record, StoredEvent)

    def differences(self) -> list[Difference]:
        """Return the differences between entries and stored states.

        None for an incomplete chain.
        """
        if self.chain.fault is not None:
            return []
        return list(compare_states(self.chain.last, self.states, self.chain.base.resources))


async def take_snapshot(store: Store, anchors: Mapping[int, str] | None = None) -> AuditSnapshot:
    """Read the entries and the states of a store at one moment; the store need not be open."""
    found = AuditSnapshot(ChainVerifier(anchors))
    async with aclosing(store.export()) as parts:
        async for part in parts:
            if not all(found.add(record) for record in part):
                break
    found.chain.end()
    return found
