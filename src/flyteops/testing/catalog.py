# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Packs, flows, datastore items and notes: the tests."""

import asyncio
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
from flyteops.testing.case import StoreCase, raises, start, take
from flyteops.testing.sample import NOON, Sample, minutes


class CatalogContract(StoreCase):
    """Packs, flows, datastore items and notes."""

    # ------------------------------------------------------------------------------------------------------------ packs

    async def test_a_pack_comes_back_as_it_was_saved(self) -> None:
        link = Link("https://example.org/päck?q=1", "help")
        pack = PackDeclaration(
            name="Wörker ☃",
            labels={"env": "prod", "a": "b.c"},
            commands=(
                CommandDeclaration("Deploy", ("Deployed", "DeployFailed"), {"type": "object", "properties": {"ä.$b": {}}}),
                CommandDeclaration("Check"),
            ),
            events=(EventDeclaration("Asked", (link,), {"type": "string"}), EventDeclaration("Ticked")),
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
            later = PackDeclaration("Worker", {"env": "prod"}, commands=(CommandDeclaration("New"),)).seen(minutes(-5))
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
            assert list(await store.list_packs()) == sorted(packs, key=lambda pack: (pack.name, pack.id))

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
            await store.touch_packs({early.id: minutes(1), late.id: minutes(-1), "Nobody": minutes(1)})
            await store.touch_packs({})
            assert list(await store.list_packs()) == [early.seen(minutes(1)), late]

    # ------------------------------------------------------------------------------------------------------------ flows

    async def test_a_flow_comes_back_as_it_was_saved(self) -> None:
        step = Step(
            id="ä",
            event=EventPattern("Asked", "Watcher", {"env": "{{ Context.env }}"}),
            command=Command("Deploy", "Worker", {"env": "prod"}, {"big": 2**53 + 1, "list": [None, True, 1.5, {"deep": "ü"}]}),
            depends_on=Dependencies(all=("x", "y"), any=("z",)),
            context={"env": "prod"},
            criteria="{{ Event.Name == 'Asked' }}",
        )
        listed = Step(event=step.event, command=Command("Check", "Worker"), depends_on=("ä",))
        version = FlowVersion("some-uuid", Flow("Déploy", "What it does\nat length", (step, listed)), minutes(3))
        async with self.connect() as store:
            await store.save_flow(version)
            assert await store.get_flow_version("some-uuid") == version
            assert list(await store.list_flows()) == [version]

    async def test_saving_a_flow_again_makes_a_new_current_version_and_keeps_the_old_one(self) -> None:
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
            assert [version.flow.name for version in await store.list_flows()] == ["A", "a", "a b", "b", "c"]

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

    # -------------------------------------------------------------------------------------------------------- datastore

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

    # ------------------------------------------------------------------------------------------------------------ notes

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
            saves = [store.save_note(Note("change", "1", b"%d" % number), replaces=False) for number in range(8)]
            results = await asyncio.gather(*saves, return_exceptions=True)
            assert sum(result is None for result in results) == 1
            assert all(result is None or isinstance(result, ConflictError) for result in results)
