"""Whatever somebody does to one entry of the audit log, the chain tells."""

import json
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flyteops.model import Note
from flyteops.service.auditlog.entry import (
    KIND,
    NOTHING,
    Actor,
    AuditEntry,
    ChainVerifier,
    Origin,
    ResourceState,
    key_of,
    open_entry,
    seal_entry,
)

texts = st.text(max_size=8)
states = st.one_of(st.none(), st.builds(ResourceState.of, texts, st.binary(max_size=8), texts))
changes = st.builds(
    AuditEntry,
    seq=st.just(0),
    time=st.just("2026-03-01T12:30:00.25Z"),
    who=st.builds(
        Actor, kind=st.sampled_from(["anonymous", "token", "oidc"]), id=texts, name=texts
    ),
    place=st.builds(Origin, address=texts, forwarded_for=texts, agent=texts),
    kind=st.sampled_from(["flow", "datastore", "action"]),
    name=texts,
    action=st.sampled_from(["created", "updated", "removed"]),
    before=states,
    after=states,
    previous=st.just(NOTHING),
)


def chained(entries):
    """Return entries as notes that follow each other."""
    notes, previous = [], NOTHING
    for seq, entry in enumerate(entries, 1):
        sealed, note = seal_entry(replace(entry, seq=seq, previous=previous))
        notes.append(note)
        previous = sealed.hash
    return notes


FEW = settings(max_examples=20)

logs = st.lists(changes, min_size=1, max_size=4).map(chained)


def walked(notes, anchors=None):
    chain = ChainVerifier(anchors)
    for note in sorted(notes, key=lambda note: note.key):
        chain.add(note)
    chain.end()
    return chain


def how(notes, anchors=None):
    fault = walked(notes, anchors).fault
    return None if fault is None else (fault.seq, fault.how)


@FEW
@given(logs)
def test_a_log_that_nobody_has_touched_is_whole(notes):
    chain = walked(notes)
    assert (chain.fault, chain.seq) == (None, len(notes))


@given(logs, st.data())
def test_any_byte_that_is_changed_is_found_at_its_entry(notes, data):
    at = data.draw(st.integers(0, len(notes) - 1))
    value = bytearray(notes[at].value)
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    touched = [*notes[:at], replace(notes[at], value=bytes(value)), *notes[at + 1 :]]
    assert how(touched) == (at + 1, "modified")


@FEW
@given(logs, st.data())
def test_bytes_that_are_put_in_or_cut_off_are_found_at_their_entry(notes, data):
    at = data.draw(st.integers(0, len(notes) - 1))
    value = notes[at].value
    cut = data.draw(st.integers(0, len(value)))
    changed = (
        value[:cut]
        + data.draw(st.binary(max_size=5))
        + value[data.draw(st.integers(cut, len(value))) :]
    )
    if changed != value:
        assert how([*notes[:at], replace(notes[at], value=changed), *notes[at + 1 :]]) == (
            at + 1,
            "modified",
        )


@FEW
@given(logs, st.data())
def test_an_entry_that_says_something_else_is_found_though_its_hash_was_made_anew(notes, data):
    at = data.draw(st.integers(0, len(notes) - 1))
    _, forged = seal_entry(replace(open_entry(notes[at]), name="forged!"))
    whole = [*notes[:at], forged, *notes[at + 1 :]]
    anchors = {len(notes): open_entry(notes[-1]).hash}
    if notes[at] != forged:
        assert how(whole, anchors) == (at + 1, "modified")


@FEW
@given(logs, st.data())
def test_an_entry_that_is_taken_out_is_found(notes, data):
    at = data.draw(st.integers(0, len(notes) - 1))
    anchors = {len(notes): open_entry(notes[-1]).hash}
    assert how([*notes[:at], *notes[at + 1 :]], anchors) == (at + 1, "removed")


@FEW
@given(logs, st.data())
def test_entries_that_change_their_places_are_found(notes, data):
    one, two = sorted(data.draw(st.lists(st.integers(0, len(notes) - 1), min_size=2, max_size=2)))
    swapped = list(notes)
    swapped[one], swapped[two] = (
        replace(notes[two], key=notes[one].key),
        replace(notes[one], key=notes[two].key),
    )
    assert how(swapped) == ((one + 1, "reordered") if one != two else None)


@FEW
@given(
    logs,
    changes,
    st.sampled_from(
        ["000000000000", "1", "x", "000000000001x", "00000000000\uff11", "-00000000001"]
    ),
)
def test_a_note_between_the_entries_is_found(notes, entry, key):
    _, forged = seal_entry(replace(entry, seq=1))
    assert how([*notes, replace(forged, key=key)])[1] == "inserted"


@FEW
@given(logs)
def test_the_newest_entries_are_missed_by_who_knows_of_them(notes):
    head = walked(notes)
    assert how(notes[:-1]) is None
    assert how(notes[:-1], {head.seq: head.hash}) == (len(notes), "removed")
    assert how(notes, {head.seq: "0" * 63 + "1"}) == (len(notes), "modified")


@FEW
@given(logs)
def test_what_the_api_answers_can_be_verified_by_anybody(notes):
    previous = NOTHING
    for note in notes:
        entry = json.loads(msgspec.json.encode(open_entry(note)))
        digest = entry.pop("hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert (sha256(text.encode()).hexdigest(), entry["previous"]) == (digest, previous)
        previous = digest


@pytest.mark.parametrize("value", [b"", b"\n", b"{}", b"x\n{}", b"\xff\n\xff", b"1" * 64 + b"\n{}"])
def test_what_is_no_entry_is_found(value):
    assert how([Note(KIND, key_of(1), value)]) == (1, "modified")
