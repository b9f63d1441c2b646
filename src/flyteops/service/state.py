"""Resource snapshots for the change log: as last recorded, and as stored now."""

from collections.abc import Mapping
from contextlib import aclosing

import msgspec

from flyteops.change import BASE, KIND, Chain, Difference, State, Thing, differences, thing
from flyteops.model import Action, DataItem, Flow, Note, Pack, pack_id
from flyteops.service.hook.hook import HOOK, Hook
from flyteops.service.token import TOKEN, Token
from flyteops.service.vault import KIND as SECRET
from flyteops.service.vault import Sealed
from flyteops.service.verdict import Resolution
from flyteops.storage.base import Store
from flyteops.storage.record import Stored, StoredEvent, StoredFlow, StoredItem, StoredNote, StoredPack, StoredVersion

JSON = "application/json"

_encode = msgspec.json.Encoder(order="deterministic").encode


def of_flow(flow: Flow) -> State:
    """Return the state of a flow."""
    return State.of(JSON, _encode(flow))


def of_pack(pack: Pack) -> State:
    """Return the state of a pack: its declaration, without the time when it was seen."""
    return State.of(JSON, _encode(pack.declaration))


def of_item(item: DataItem) -> State:
    """Return the state of a datastore item that is not secret."""
    return State.of(item.content_type, item.value, item.description)


def of_action(action: Action) -> State:
    """Return the state of an action before a person resolves it."""
    said = {
        "state": action.state,
        "command": action.name,
        "pack": pack_id(action.pack_name, action.pack_labels),
        "flow": action.flow_name,
        "step": action.step_id,
        "execution": action.correlation_id,
    }
    return State.of(JSON, _encode(said))


def of_resolution(resolution: Resolution, event: str | None, payload: bytes | None) -> State:
    """Return the state of an action that a person resolved."""
    given = {"resolution": resolution, "event": event, "payload": None if payload is None else msgspec.Raw(payload)}
    return State.of(JSON, _encode({name: value for name, value in given.items() if value is not None}))


def _of_note(note: Note, kind: type[Sealed | Token | Hook]) -> State:
    try:
        return msgspec.json.decode(note.value, type=kind).state
    except (msgspec.MsgspecError, UnicodeDecodeError):  # damaged
        return State.of("application/octet-stream", note.value)


class Survey:
    """Collects the chain of entries and the stored states from records, up to the notes."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.states: dict[Thing, State] = {}
        self._flows: dict[str, Flow] = {}

    def add(self, record: Stored) -> bool:
        """Add the next record; return whether further records matter."""
        match record:
            case StoredPack(pack):
                self.states[thing("pack", pack.id)] = of_pack(pack)
            case StoredVersion(version):
                self._flows[version.uuid] = version.flow
            case StoredFlow(name, uuid) if uuid in self._flows:
                self.states[thing("flow", name)] = of_flow(self._flows[uuid])
            case StoredItem(item):
                self.states[thing("datastore", item.key)] = of_item(item)
            case StoredNote(note) if note.kind == BASE:
                self.chain.begin(note)
            case StoredNote(note) if note.kind == KIND:
                self.chain.add(note)
            case StoredNote(note) if note.kind == SECRET:
                self.states[thing("datastore", note.key)] = _of_note(note, Sealed)
            case StoredNote(note) if note.kind == TOKEN:
                self.states[thing("token", note.key)] = _of_note(note, Token)
            case StoredNote(note) if note.kind == HOOK:
                self.states[thing("hook", note.key)] = _of_note(note, Hook)
        return not isinstance(record, StoredEvent)

    def differences(self) -> list[Difference]:
        """Return the differences between entries and stored states.

        None for an incomplete chain.
        """
        if self.chain.fault is not None:
            return []
        return list(differences(self.chain.last, self.states, self.chain.base.things))


async def survey(store: Store, anchors: Mapping[int, str] | None = None) -> Survey:
    """Read the entries and the states of a store at one moment; the store need not be open."""
    found = Survey(Chain(anchors))
    async with aclosing(store.export()) as parts:
        async for part in parts:
            if not all(found.add(record) for record in part):
                break
    found.chain.end()
    return found
