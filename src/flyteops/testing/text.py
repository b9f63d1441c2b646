# ruff: noqa: S101 - it asserts
"""Tests of texts that a database may not accept: they are refused, and other data is unharmed."""

import asyncio
import random
import string
from contextlib import suppress
from itertools import product

from flyteops.errors import InputError, NotFoundError
from flyteops.model import DataItem, Note, PackDeclaration, PackRef
from flyteops.name import MAX_LABELS, MAX_LENGTH
from flyteops.storage.query import ActionFilter, EventFilter, ExecutionFilter
from flyteops.testing.case import ANY_EVENT, ANYTHING, StoreCase, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample

ODD = ("a\0b", "\ud800", "x" * 1_000_000, "\\u0000", "\x7f\x01\u2028", "$where", "a.b", "é☃😀")
"""Texts that some databases refuse, cut, or misinterpret."""


class TextContract(StoreCase):
    """Texts of all kinds."""

    async def test_a_command_that_no_pack_can_have_keeps_no_pack_from_others(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            for odd in ODD:
                for fields in (
                    {"pack_labels": {"x": odd}},
                    {"pack_labels": {odd: "x"}},
                    {"name": odd},
                ):
                    with suppress(InputError):
                        await start(store, sample.action(**fields))
            good = sample.action()
            await start(store, good)
            worker = PackRef("Worker.zone.eu", "Worker", {"zone": "eu"})
            taken = [await store.claim(worker, NOON, action_name="Deploy") for _ in range(2)]
            assert [one.action_id for claimed in taken for one in claimed] == [good.action_id]
            await store.list_actions(ActionFilter(), 0, 100)
            await store.list_executions(ANYTHING, 0, 100)
            found = await store.list_executions(
                ExecutionFilter(action_pack_labels={"x": "y"}), 0, 100
            )
            assert not found

    async def test_a_value_that_is_refused_does_not_harm_those_beside_it(self) -> None:
        sample = Sample()
        odd = [sample.event(text) for text in ODD] + [
            sample.event(pack=PackRef("p", "P", {"x": text})) for text in ODD
        ]
        good = [sample.event() for _ in odd]
        async with self.connect() as store:
            pairs = [event for pair in zip(odd, good, strict=True) for event in pair]
            outcomes = await asyncio.gather(
                *(store.record(event, NOTHING) for event in pairs), return_exceptions=True
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert all(isinstance(outcome, InputError) for outcome in refused)
            for event in good:
                assert (await store.get_event(event.event_id)).event == event
            await store.list_events(ANY_EVENT, 0, 100)

    async def test_what_is_kept_comes_back_and_what_is_refused_is_refused_as_input(self) -> None:
        async with self.connect() as store:
            for number, odd in enumerate(ODD):
                item = DataItem(odd, "text/plain", b"1", odd[:100])
                with suppress(InputError):
                    await store.save_item(item)
                    assert item in await store.list_items()
                note = Note("kind", odd, b"1")
                with suppress(InputError):
                    await store.save_note(note)
                    assert note in await store.list_notes("kind")
                pack = PackDeclaration(f"Pack{number}", {"x": odd}).seen(NOON)
                with suppress(InputError):
                    await store.save_pack(pack)
                    assert await store.find_pack(pack.id) == pack
            await store.list_packs()
            await store.list_items()

    async def test_a_search_for_any_text_finds_nothing_or_is_refused_as_input(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action())
            for odd in ODD:
                for search in (
                    store.list_events(
                        EventFilter(event_name=odd, pack_name=odd, flow_name=odd), 0, 10
                    ),
                    store.list_executions(
                        ExecutionFilter(flow_name=odd, action_pack_labels={"x": odd}), 0, 10
                    ),
                    store.list_executions(
                        ExecutionFilter(action_pack_name=odd, step_id=odd, action_name=odd), 0, 10
                    ),
                    store.list_actions(ActionFilter(flow_name=odd, pack_name=odd), 0, 10),
                    store.claim(PackRef(odd, odd, {odd: odd}), NOON, action_name=odd),
                ):
                    with suppress(InputError):
                        assert not await search
                for look in (
                    store.get_event(odd),
                    store.get_action(odd),
                    store.get_execution(odd),
                    store.get_flow_version(odd),
                ):
                    with suppress(InputError, NotFoundError):
                        raise AssertionError(await look)
            assert await take(store)

    async def test_the_longest_names_and_labels_have_room(self) -> None:
        sample = Sample()
        # A text that no database can compress.
        long = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=MAX_LENGTH))  # noqa: S311 - any text would do
        labels = {"k": (long * 3)[: MAX_LABELS - len('{"k":""}')]}
        pack = PackRef("long", long, labels)
        async with self.connect() as store:
            for number, (command, name) in enumerate(product((long, "c"), (long, "Worker"))):
                action = sample.action(
                    name=command, pack_name=name, pack_labels=labels, step_id=long, flow_name=long
                )
                await store.record(
                    sample.event(long, pack=pack), NOTHING, key=f"{number}{long * 4}"[:2000]
                )
                await start(store, action)
                (claimed,) = await store.claim(PackRef("long", name, {**labels, "more": "x"}), NOON)
                assert claimed.action_id == action.action_id
            assert not await store.claim(WORKER, NOON)
