# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of packs, flows, datastore items and notes."""

import asyncio
from datetime import timedelta
from typing import Any

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import (
    Command,
    CommandDeclaration,
    DataItem,
    Dependencies,
    EventDeclaration,
    EventPattern,
    Flow,
    FlowVersion,
    Link,
    Note,
    PackDeclaration,
    Step,
)
from flyteops.storage.query import PurgedVersions, Retention, VersionBound
from flyteops.testing.case import StoreCase, raises, start, take
from flyteops.testing.sample import NOON, Sample, minutes


class CatalogContract(StoreCase):
    """Packs, flows, datastore items and notes."""

    # ---------------------------------------------------------------------------------------- packs

    async def test_a_pack_comes_back_as_it_was_saved(self) -> None:
        link = Link("https://example.org/päck?q=1", "help")
        pack = PackDeclaration(
            name="Wörker ☃",
            labels={"env": "prod", "a": "b.c"},
            commands=(
                CommandDeclaration(
                    "Deploy",
                    ("Deployed", "DeployFailed"),
                    {"type": "object", "properties": {"ä.$b": {}}},
                ),
                CommandDeclaration("Check"),
            ),
            events=(
                EventDeclaration("Asked", (link,), {"type": "string"}),
                EventDeclaration("Ticked"),
            ),
            links=(link,),
            items=("chatops", "tëams/$x.y"),
        ).seen(minutes(1))
        async with self.connect() as store:
            await store.save_pack(pack)
            assert await store.find_pack(pack.id) == pack

    async def test_a_pack_that_is_not_there_is_none(self) -> None:
        async with self.connect() as store:
            assert await store.find_pack("Nobody") is None

    async def test_saving_a_pack_again_replaces_it(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.save_pack(sample.pack("Worker", env="prod"))
            later = PackDeclaration(
                "Worker", {"env": "prod"}, commands=(CommandDeclaration("New"),)
            ).seen(minutes(-5))
            await store.save_pack(later)
            assert list(await store.list_packs()) == [later]

    async def test_packs_are_listed_by_name_and_then_id(self) -> None:
        sample = Sample()
        packs = [
            sample.pack("B"),
            sample.pack("A", zone="x"),
            sample.pack("A"),
            sample.pack("A", env="x"),
            sample.pack("a"),
            sample.pack("A.B"),
        ]
        async with self.connect() as store:
            for pack in packs:
                await store.save_pack(pack)
            assert list(await store.list_packs()) == sorted(
                packs, key=lambda pack: (pack.name, pack.id)
            )

    async def test_deleting_a_pack_removes_it_once(self) -> None:
        pack = Sample().pack()
        async with self.connect() as store:
            await store.save_pack(pack)
            await store.delete_pack(pack.id)
            assert await store.find_pack(pack.id) is None
            with raises(NotFoundError):
                await store.delete_pack(pack.id)

    async def test_a_pack_seen_lately_is_not_deleted_as_dead(self) -> None:
        pack = Sample().pack()
        async with self.connect() as store:
            await store.save_pack(pack)
            await store.delete_pack(pack.id, unless_seen_since=NOON)
            await store.delete_pack(pack.id, unless_seen_since=minutes(-1))
            assert await store.find_pack(pack.id) == pack
            await store.delete_pack(pack.id, unless_seen_since=minutes(1))
            assert await store.find_pack(pack.id) is None
            with raises(NotFoundError):
                await store.delete_pack(pack.id, unless_seen_since=minutes(1))

    async def test_events_and_actions_of_a_deleted_pack_stay(self) -> None:
        sample = Sample()
        action = sample.action()
        pack = PackDeclaration("Watcher", {"env": "prod"}).seen(NOON)
        async with self.connect() as store:
            await store.save_pack(pack)
            event = await start(store, action)
            await store.delete_pack(pack.id)
            assert (await store.get_event(event.event_id)).event == event
            assert await take(store) == action.action_id

    async def test_touching_moves_last_seen_forward_never_back(self) -> None:
        sample = Sample()
        early, late = sample.pack("Early"), sample.pack("Late")
        async with self.connect() as store:
            await store.save_pack(early)
            await store.save_pack(late)
            await store.touch_packs(
                {early.id: minutes(1), late.id: minutes(-1), "Nobody": minutes(1)}
            )
            await store.touch_packs({})
            assert list(await store.list_packs()) == [early.seen(minutes(1)), late]

    # ---------------------------------------------------------------------------------------- flows

    async def test_a_flow_comes_back_as_it_was_saved(self) -> None:
        step = Step(
            id="ä",
            event=EventPattern("Asked", "Watcher", {"env": "{{ Context.env }}"}),
            command=Command(
                "Deploy",
                "Worker",
                {"env": "prod"},
                {"big": 2**53 + 1, "list": [None, True, 1.5, {"deep": "ü"}]},
            ),
            depends_on=Dependencies(all=("x", "y"), any=("z",)),
            context={"env": "prod"},
            criteria="{{ Event.Name == 'Asked' }}",
        )
        listed = Step(event=step.event, command=Command("Check", "Worker"), depends_on=("ä",))
        version = FlowVersion(
            "some-uuid", Flow("Déploy", "What it does\nat length", (step, listed)), minutes(3)
        )
        async with self.connect() as store:
            await store.save_flow(version)
            assert await store.get_flow_version("some-uuid") == version
            assert list(await store.list_flows()) == [version]

    async def test_saving_a_flow_again_makes_a_new_current_version_and_keeps_the_old_one(
        self,
    ) -> None:
        sample = Sample()
        old, new = sample.flow(description="old"), sample.flow(description="new")
        async with self.connect() as store:
            await store.save_flow(old)
            await store.save_flow(new)
            assert list(await store.list_flows()) == [new]
            assert await store.get_flow_version(old.uuid) == old

    async def test_flows_are_listed_by_name(self) -> None:
        sample = Sample()
        flows = [sample.flow(name) for name in ("b", "A", "c", "a b", "a")]
        async with self.connect() as store:
            for flow in flows:
                await store.save_flow(flow)
            assert [version.flow.name for version in await store.list_flows()] == [
                "A",
                "a",
                "a b",
                "b",
                "c",
            ]

    async def test_a_deleted_flow_has_no_current_version_but_can_be_saved_again(self) -> None:
        sample = Sample()
        old, new = sample.flow(), sample.flow()
        async with self.connect() as store:
            await store.save_flow(old)
            await store.delete_flow("Deploy")
            assert list(await store.list_flows()) == []
            assert await store.get_flow_version(old.uuid) == old
            with raises(NotFoundError):
                await store.delete_flow("Deploy")
            await store.save_flow(new)
            assert list(await store.list_flows()) == [new]

    async def test_an_unknown_flow_version_is_not_found(self) -> None:
        async with self.connect() as store:
            with raises(NotFoundError):
                await store.get_flow_version("nothing")

    # ------------------------------------------------------------------------------------ datastore

    async def test_an_item_comes_back_byte_by_byte_and_says_whether_it_was_new(self) -> None:
        item = DataItem("kéy/with ☃", 'text/plain; charset="x"', bytes(range(256)), "déscription")
        changed = DataItem(item.key, "application/json", b"{}")
        async with self.connect() as store:
            assert await store.save_item(item) is True
            assert list(await store.list_items()) == [item]
            assert await store.save_item(changed) is False
            assert list(await store.list_items()) == [changed]

    async def test_items_are_listed_by_key_and_deleted_once(self) -> None:
        async with self.connect() as store:
            for key in ("b", "A", "a"):
                await store.save_item(DataItem(key, "text/plain", key.encode()))
            assert [item.key for item in await store.list_items()] == ["A", "a", "b"]
            await store.delete_item("a")
            assert [item.key for item in await store.list_items()] == ["A", "b"]
            with raises(NotFoundError):
                await store.delete_item("a")

    async def test_flow_versions_that_nothing_uses_are_removed_beyond_their_bound_the_oldest_first(
        self,
    ) -> None:
        sample = Sample()
        began, old, older, current = (sample.flow(at=minutes(at)) for at in (2, 1, 0, 3))
        gone = sample.flow("Former", at=minutes(4))
        async with self.connect() as store:
            for version in (began, old, older, current, gone):
                await store.save_flow(version)
            await store.delete_flow("Former")
            await start(store, sample.action(flow_uuid=began.uuid))
            bound = VersionBound(minutes(10), minutes(5), max_bytes=0)
            marked = await store.purge_versions(bound)
            assert marked.removed == 0, "they were in use a moment ago, as far as anybody knows"
            length = marked.unused_bytes // 3
            later = VersionBound(minutes(20), minutes(11), max_bytes=2 * length)
            assert await store.purge_versions(later) == PurgedVersions(
                1, marked.unused_bytes - length
            )
            with raises(NotFoundError):
                await store.get_flow_version(older.uuid)
            assert await store.purge_versions(later) == PurgedVersions(
                0, marked.unused_bytes - length
            )
            all_of_them = VersionBound(minutes(20), minutes(11), max_bytes=0)
            assert (await store.purge_versions(all_of_them, limit=1)).removed == 1
            assert await store.purge_versions(all_of_them) == PurgedVersions(1, 0)
            for uuid in (old.uuid, gone.uuid):
                with raises(NotFoundError):
                    await store.get_flow_version(uuid)
            assert await store.get_flow_version(began.uuid) == began
            assert list(await store.list_flows()) == [current]

    async def test_a_flow_version_goes_when_the_history_that_refers_to_it_is_gone(self) -> None:
        sample = Sample()
        began, current = sample.flow(at=minutes(0)), sample.flow(at=minutes(1))
        async with self.connect() as store:
            await store.save_flow(began)
            await store.save_flow(current)
            await start(
                store, sample.action(flow_uuid=began.uuid), event=sample.event(at=minutes(2))
            )
            at = minutes(10)
            for _ in range(2):
                assert await store.purge_versions(
                    VersionBound(at, at, max_bytes=0)
                ) == PurgedVersions(0, 0)
                at += timedelta(hours=1)
            await store.purge(Retention(at, at, at))
            for removed in (0, 1):
                assert (
                    await store.purge_versions(VersionBound(at, at, max_bytes=0))
                ).removed == removed
                at += timedelta(hours=1)

    async def test_an_event_that_was_under_way_keeps_the_version_that_it_was_evaluated_with(
        self,
    ) -> None:
        sample = Sample()
        began, current = sample.flow(at=minutes(0)), sample.flow(at=minutes(1))
        async with self.connect() as store:
            await store.save_flow(began)
            await store.save_flow(current)
            await store.purge_versions(VersionBound(minutes(2), minutes(1), max_bytes=0))
            await start(store, sample.action(flow_uuid=began.uuid))
            assert await store.purge_versions(
                VersionBound(minutes(100), minutes(99), max_bytes=0)
            ) == PurgedVersions(0, 0)
            assert await store.get_flow_version(began.uuid) == began

    # ---------------------------------------------------------------------------------------- notes

    async def test_the_first_notes_of_a_kind_are_removed_up_to_a_key(self) -> None:
        notes = [Note(kind, f"{number:03d}", b"x") for kind in ("a", "b") for number in range(6)]
        async with self.connect() as store:
            for note in notes:
                await store.save_note(note)
            assert await store.delete_notes("a", until="003", limit=2) == 2
            assert await store.delete_notes("a", until="003", limit=10) == 2
            assert await store.delete_notes("a", until="003", limit=10) == 0
            assert await store.delete_notes("c", until="9", limit=10) == 0
            assert await store.delete_notes("b", until="009", limit=0) == 0
            assert list(await store.list_notes("a")) == notes[4:6]
            assert list(await store.list_notes("b")) == notes[6:]

    async def test_a_note_comes_back_as_it_was_saved_and_is_replaced_where_it_may(self) -> None:
        note = Note("tokén", "a/b ☃", bytes(range(256)))
        changed = Note(note.kind, note.key, b"")
        async with self.connect() as store:
            await store.save_note(note, replaces=False)
            assert list(await store.list_notes("tokén")) == [note]
            with raises(ConflictError):
                await store.save_note(changed, replaces=False)
            assert list(await store.list_notes("tokén")) == [note]
            await store.save_note(changed)
            assert list(await store.list_notes("tokén")) == [changed]

    async def test_notes_are_listed_by_kind_and_key_from_either_end(self) -> None:
        async with self.connect() as store:
            for key in ("b", "A", "c", "a"):
                await store.save_note(Note("hook", key, b"1"))
            await store.save_note(Note("token", "b", b"2"))

            async def keys(**which: Any) -> list[str]:
                return [note.key for note in await store.list_notes("hook", **which)]

            assert await keys() == ["A", "a", "b", "c"]
            assert await keys(after="a") == ["b", "c"]
            assert await keys(after="A", limit=2) == ["a", "b"]
            assert await keys(backwards=True, limit=1) == ["c"]
            assert await keys(after="b", backwards=True) == ["a", "A"]
            assert list(await store.list_notes("nothing")) == []

    async def test_a_note_is_deleted_once(self) -> None:
        async with self.connect() as store:
            await store.save_note(Note("hook", "a", b""))
            await store.save_note(Note("token", "a", b""))
            await store.delete_note("hook", "a")
            assert list(await store.list_notes("hook")) == []
            assert len(await store.list_notes("token")) == 1
            with raises(NotFoundError):
                await store.delete_note("hook", "a")

    async def test_of_notes_saved_at_once_under_one_key_one_is_first(self) -> None:
        async with self.connect() as store:
            saves = [
                store.save_note(Note("change", "1", b"%d" % number), replaces=False)
                for number in range(8)
            ]
            results = await asyncio.gather(*saves, return_exceptions=True)
            assert sum(result is None for result in results) == 1
            assert all(result is None or isinstance(result, ConflictError) for result in results)
