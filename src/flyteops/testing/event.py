# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of events and the decisions about them."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import (
    Evaluation,
    Event,
    EventRecord,
    PackRef,
)
from flyteops.storage.base import Claimed
from flyteops.testing.case import ANYTHING, StoreCase, ids, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, creating, decision


class EventContract(StoreCase):
    """Events and the decisions about them."""

    # --------------------------------------------------------------------------------------- events

    async def test_an_event_comes_back_as_it_was_sent(self) -> None:
        event = Event(
            event_id="an-event",
            name="Àsked ☃",
            pack=PackRef("any.id", "Wätcher", {"b": "1", "a": "ü"}),
            payload='{"b": 12345678901234567890123, "a":  1.10, "a": "☃\\u0000"}'.encode(),
            received_at=datetime(2024, 5, 17, 12, 0, 0, 999999, tzinfo=UTC),
        )
        async with self.connect() as store:
            await store.record(event, NOTHING)
            assert await store.get_event("an-event") == EventRecord(event, ())

    async def test_the_time_an_event_was_created_keeps_offset_and_precision(self) -> None:
        times = [
            datetime(2024, 5, 17, 12, 0, 0, 1, tzinfo=UTC),
            datetime(2024, 5, 17, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=timezone(-timedelta(hours=4))),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ]
        sample = Sample()
        async with self.connect() as store:
            for at in times:
                event = sample.event(created_at=at)
                await store.record(event, NOTHING)
                found = (await store.get_event(event.event_id)).event.created_at
                assert found is not None
                assert found.isoformat() == at.isoformat()

    async def test_a_large_payload_comes_back_unchanged(self) -> None:
        text = b'"' + "aß☃".encode() * 500_000 + b'"'
        sample = Sample()
        action = sample.action(input=text)
        event = sample.event(payload=text)
        async with self.connect() as store:
            await start(store, action, event=event)
            assert (await store.get_event(event.event_id)).event.payload == text
            assert list(await store.claim(WORKER, NOON)) == [
                Claimed(action.action_id, "Deploy", text, revision=1)
            ]

    async def test_decisions_come_back_as_they_were_made(self) -> None:
        sample = Sample()
        action = sample.action()
        decisions = (
            *creating(action).decisions,
            decision("Other", values={"Event.Payload.x": '"☃"'}, detail="ünd so weiter"),
            decision(
                "Other",
                step_index=3,
                outcome="failed",
                reason="error",
                path="steps[3].criteria",
                line=2,
                column=7,
            ),
        )
        event = sample.event()
        async with self.connect() as store:
            await store.record(event, Evaluation(decisions, (action,)))
            assert (await store.get_event(event.event_id)).decisions == decisions

    async def test_an_unknown_event_is_not_found(self) -> None:
        async with self.connect() as store:
            with raises(NotFoundError):
                await store.get_event("nothing")

    async def test_recording_an_event_twice_is_refused_and_changes_nothing(self) -> None:
        sample = Sample()
        event = sample.event()
        async with self.connect() as store:
            await store.record(event, NOTHING)
            with raises(ConflictError):
                await store.record(event, creating(sample.action()))
            assert list(await store.list_executions(ANYTHING, 0, 10)) == []
            assert not await store.claim(WORKER, NOON)

    async def test_recording_an_action_twice_is_refused_and_changes_nothing(self) -> None:
        sample = Sample()
        action = sample.action()
        again = sample.action(action_id=action.action_id)
        event = sample.event()
        async with self.connect() as store:
            await start(store, action)
            with raises(ConflictError):
                await store.record(event, creating(sample.action(), again))
            with raises(NotFoundError):
                await store.get_event(event.event_id)
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [action.correlation_id]

    async def test_a_step_has_one_action_in_an_execution(self) -> None:
        sample = Sample()
        action = sample.action()
        twin = sample.action(correlation_id=action.correlation_id)
        other = sample.action()
        event = sample.event()
        async with self.connect() as store:
            await start(store, action)
            with raises(ConflictError):
                await store.record(event, creating(other, twin))
            with raises(NotFoundError):
                await store.get_event(event.event_id)
            assert [
                one.action_id for one in (await store.get_execution(action.correlation_id)).actions
            ] == [action.action_id]
            assert await take(store) == action.action_id
            assert not await store.claim(WORKER, NOON)

    async def test_a_refused_record_does_not_harm_those_beside_it(self) -> None:
        sample = Sample()
        action = sample.action()
        twins = [sample.action(correlation_id=action.correlation_id) for _ in range(5)]
        others = [sample.action() for _ in range(20)]
        async with self.connect() as store:
            await start(store, action)
            outcomes = await asyncio.gather(
                *(start(store, one) for pair in zip(twins, others, strict=False) for one in pair),
                *(start(store, one) for one in others[5:]),
                return_exceptions=True,
            )
            assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 5
            assert len(outcomes) == 25
            found = {await take(store) for _ in range(21)}
            assert found == {action.action_id, *(other.action_id for other in others)}

    async def test_steps_without_id_are_told_apart_by_their_place(self) -> None:
        sample = Sample()
        first = sample.action(step_id="")
        second = sample.action(step_id="", step_index=1, correlation_id=first.correlation_id)
        async with self.connect() as store:
            await start(store, first, second)
            assert len((await store.get_execution(first.correlation_id)).actions) == 2
