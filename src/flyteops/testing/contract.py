# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""The tests that every backend passes. See the package's docstring for how to run them against one."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

from flyteops.errors import ConflictError, FlyteError, NotFoundError, UnavailableError
from flyteops.model import (
    Action,
    ActionState,
    Command,
    CommandDeclaration,
    DataItem,
    Dependencies,
    Event,
    EventDeclaration,
    EventPattern,
    EventRecord,
    Execution,
    Flow,
    FlowVersion,
    Link,
    NewAction,
    Outcome,
    PackDeclaration,
    PackRef,
    Progress,
    Sibling,
    Step,
    Transition,
)
from flyteops.storage.base import Claimed, EventFilter, ExecutionFilter, Purged, Store
from flyteops.testing.sample import NOON, NOTHING, SENDER, WORKER, Sample, always, creating, decision, minutes

ANYTHING = ExecutionFilter()
ANY_EVENT = EventFilter()


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[None]:
    """Fail unless the block raises an error of this kind."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def ids(executions: Sequence[Execution]) -> list[str]:
    """Return what tells the executions apart."""
    return [execution.correlation_id for execution in executions]


def event_ids(records: Sequence[EventRecord]) -> list[str]:
    """Return what tells the events apart."""
    return [record.event.event_id for record in records]


async def start(store: Store, *actions: NewAction, event: Event | None = None) -> Event:
    """Record an event that creates these actions."""
    event = event or Sample().event(event_id=f"trigger-of-{actions[0].action_id}")
    await store.record(event, creating(*actions))
    return event


async def take(store: Store, at: datetime = NOON, pack: PackRef = WORKER) -> str:
    """Claim an action that must be there; return its id."""
    claimed = await store.claim(pack, at)
    assert claimed is not None, "no action is handed out"
    return claimed.action_id


class StoreContract:
    """The tests; subclass it and say how to `connect`."""

    def connect(self) -> Store:
        """Return a store that is not opened, on data of this test's own; called again, another one on the same data."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------------ packs

    async def test_a_pack_comes_back_as_it_was_saved(self) -> None:
        link = Link("https://example.org/päck?q=1", "help")
        pack = PackDeclaration(
            name="Wörker ☃",
            labels={"env": "prod", "a": "b.c"},
            commands=(CommandDeclaration("Deploy", ("Deployed", "DeployFailed")), CommandDeclaration("Check")),
            events=(EventDeclaration("Asked", (link,)), EventDeclaration("Ticked")),
            links=(link,),
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

    # ----------------------------------------------------------------------------------------------------------- events

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
            assert await store.claim(WORKER, NOON) == Claimed(action.action_id, "Deploy", text)

    async def test_decisions_come_back_as_they_were_made(self) -> None:
        sample = Sample()
        action = sample.action()
        decisions = (
            *creating(action).decisions,
            decision("Other", values={"Event.Payload.x": '"☃"'}, detail="ünd so weiter"),
            decision("Other", step_index=3, outcome="failed", reason="error", path="steps[3].criteria", line=2, column=7),
        )
        event = sample.event()
        async with self.connect() as store:
            await store.record(event, Outcome(decisions, (action,)))
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
            assert await store.claim(WORKER, NOON) is None

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
            assert [one.action_id for one in (await store.get_execution(action.correlation_id)).actions] == [action.action_id]
            assert await take(store) == action.action_id
            assert await store.claim(WORKER, NOON) is None

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

    # ----------------------------------------------------------------------------------------------- the life of an action

    async def test_an_action_goes_from_new_over_pending_to_success(self) -> None:
        sample = Sample()
        new = sample.action(context={"chännel": "☃", "empty": ""}, pack_labels={"env": "prod"})
        async with self.connect() as store:
            trigger = await start(store, new, event=sample.event(at=minutes(1)))
            assert (await store.get_action(new.action_id)).states == (Transition(ActionState.NEW, minutes(1)),)

            assert await store.claim(WORKER, minutes(2)) == Claimed(new.action_id, "Deploy", new.input)
            result = sample.event("Deployed", minutes(3), pack=WORKER, payload=b"null")
            assert await store.finish(new.action_id, result, always(NOTHING)) is True

            expected = Action(
                action_id=new.action_id,
                name="Deploy",
                pack_name="Worker",
                pack_labels={"env": "prod"},
                input=new.input,
                correlation_id=new.correlation_id,
                flow_name="Deploy",
                flow_uuid="uuid-of-deploy",
                step_id="first",
                step_index=0,
                context={"chännel": "☃", "empty": ""},
                trigger=trigger,
                states=(
                    Transition(ActionState.NEW, minutes(1)),
                    Transition(ActionState.PENDING, minutes(2)),
                    Transition(ActionState.SUCCESS, minutes(3)),
                ),
                result=result,
            )
            assert await store.get_action(new.action_id) == expected
            execution = Execution(new.correlation_id, "Deploy", "uuid-of-deploy", (expected,))
            assert await store.get_execution(new.correlation_id) == execution
            assert list(await store.list_executions(ANYTHING, 0, 10)) == [execution]
            assert (await store.get_event(result.event_id)).action_id == new.action_id
            assert (await store.get_event(trigger.event_id)).action_id is None

    async def test_a_result_named_fatal_ends_the_action_as_fatal(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            await store.finish(action_id, sample.event("FATAL"), always(NOTHING))
            assert (await store.get_action(action_id)).state is ActionState.FATAL

    async def test_unknown_actions_and_executions_are_not_found(self) -> None:
        async with self.connect() as store:
            with raises(NotFoundError):
                await store.get_action("nothing")
            with raises(NotFoundError):
                await store.get_execution("nothing")
            with raises(NotFoundError):
                await store.finish("nothing", Sample().event(), always(NOTHING))

    # ----------------------------------------------------------------------------------------------------------- claims

    async def test_nothing_is_handed_out_when_nothing_waits(self) -> None:
        async with self.connect() as store:
            assert await store.claim(WORKER, NOON) is None
            await start(store, Sample().action())
            await take(store)
            assert await store.claim(WORKER, NOON) is None
            assert await store.claim(WORKER, NOON) is None

    async def test_the_oldest_action_is_handed_out_first_whatever_its_command(self) -> None:
        sample = Sample()
        actions = [sample.action(name=f"Command{n % 3}", pack_labels={"env": "prod"} if n % 2 else {}) for n in range(150)]
        async with self.connect() as store:
            for batch in (actions[:70], actions[70:]):
                for action in batch:
                    await start(store, action)
            assert [await take(store) for _ in actions] == [action.action_id for action in actions]

    async def test_actions_of_one_event_are_handed_out_in_their_order(self) -> None:
        sample = Sample()
        actions = [sample.action(name=name) for name in "CABDE"]
        async with self.connect() as store:
            await start(store, *actions)
            assert [await take(store) for _ in actions] == [action.action_id for action in actions]

    async def test_an_action_goes_to_packs_whose_labels_contain_its_own(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            for labels in ({"env": "test"}, {"env": "prod", "more": "x"}, {"prod": "env"}, {"env": "Prod"}):
                await start(store, sample.action(pack_labels=labels))
            await start(store, sample.action(pack_name="worker"))
            await start(store, sample.action(pack_name="Other"))
            assert await store.claim(WORKER, NOON) is None
            wanted: list[dict[str, str]] = [{"zone": "eu", "env": "prod"}, {"env": "prod"}, {}]
            actions = [sample.action(pack_labels=labels) for labels in wanted]
            for action in actions:
                await start(store, action)
            assert await take(store, pack=PackRef("Worker", "Worker")) == actions[2].action_id
            assert await take(store) == actions[0].action_id
            assert await take(store, pack=PackRef("x", "Worker", {"env": "prod"})) == actions[1].action_id
            assert await store.claim(WORKER, NOON) is None

    async def test_a_claim_may_ask_for_one_command(self) -> None:
        sample = Sample()
        deploy, check = sample.action(name="Deploy"), sample.action(name="Check")
        async with self.connect() as store:
            await start(store, deploy, check)
            assert await store.claim(WORKER, NOON, action_name="Nothing") is None
            claimed = await store.claim(WORKER, NOON, action_name="Check")
            assert claimed is not None
            assert (claimed.action_id, claimed.name) == (check.action_id, "Check")
            assert await store.claim(WORKER, NOON, action_name="Check") is None
            assert await take(store) == deploy.action_id

    async def test_parallel_claims_hand_out_each_action_once_and_oldest_first(self) -> None:
        sample = Sample()
        actions = [sample.action(name=f"Command{n % 4}", pack_labels={"env": "prod"} if n % 3 else {}) for n in range(200)]
        taken: list[list[str]] = []

        async def work(store: Store) -> None:
            own: list[str] = []
            taken.append(own)
            while (claimed := await store.claim(WORKER, NOON)) is not None:
                own.append(claimed.action_id)

        async with self.connect() as store:
            for action in actions:
                await start(store, action)
            await asyncio.gather(*(work(store) for _ in range(50)))
            order = {action.action_id: number for number, action in enumerate(actions)}
            assert sorted(order[action_id] for own in taken for action_id in own) == list(range(200))
            for own in taken:
                numbers = [order[action_id] for action_id in own]
                assert numbers == sorted(numbers)

    async def test_claims_and_records_at_the_same_time_lose_nothing(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(100)]
        taken: list[str] = []

        async def work(store: Store) -> None:
            while len(taken) < len(actions):
                claimed = await store.claim(WORKER, NOON)
                if claimed is None:
                    await store.ping()  # lets the others go on
                else:
                    taken.append(claimed.action_id)

        async with self.connect() as store:
            await asyncio.gather(*(start(store, action) for action in actions), *(work(store) for _ in range(5)))
            assert sorted(taken) == sorted(action.action_id for action in actions)

    async def test_a_claim_of_a_client_that_went_away_is_made_or_not_made(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await asyncio.gather(*(start(store, sample.action()) for _ in range(10)))
            tasks = [asyncio.ensure_future(store.claim(WORKER, NOON)) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.ping()
            rest = 0
            while await store.claim(WORKER, NOON) is not None:
                rest += 1
            states = [run.actions[0].state for run in await store.list_executions(ANYTHING, 0, 20)]
            assert states == [ActionState.PENDING] * 10
            assert 5 <= rest <= 10

    # ---------------------------------------------------------------------------------------------------------- results

    async def test_a_result_is_decided_upon_with_the_execution_as_it_stands(self) -> None:
        sample = Sample()
        first = sample.action(context={"a": "ä"}, pack_labels={"env": "prod"})
        second = sample.action(step_id="second", step_index=1, correlation_id=first.correlation_id)
        seen: list[Progress] = []

        def decide(progress: Progress) -> Outcome:
            seen.append(progress)
            return NOTHING

        async with self.connect() as store:
            await start(store, first, second)
            await take(store)
            await store.finish(first.action_id, sample.event("Deployed"), decide)
        expected = Progress(
            action_id=first.action_id,
            name="Deploy",
            pack_name="Worker",
            pack_labels={"env": "prod"},
            correlation_id=first.correlation_id,
            flow_name="Deploy",
            flow_uuid="uuid-of-deploy",
            step_id="first",
            context={"a": "ä"},
            state=ActionState.PENDING,
            siblings=(Sibling("first", 0, ActionState.PENDING), Sibling("second", 1, ActionState.NEW)),
        )
        assert seen
        assert seen[-1] == expected

    async def test_what_follows_from_a_result_is_stored_with_it(self) -> None:
        sample = Sample()
        first = sample.action()
        following = sample.action(step_id="second", step_index=1, correlation_id=first.correlation_id)
        begun = sample.action(flow_name="Other", flow_uuid="uuid-of-other")
        result = sample.event("Deployed", minutes(2))
        async with self.connect() as store:
            await start(store, first)
            await take(store)
            await store.finish(first.action_id, result, always(creating(following, begun)))
            actions = (await store.get_execution(first.correlation_id)).actions
            assert [action.action_id for action in actions] == [first.action_id, following.action_id]
            assert actions[0].result == actions[1].trigger == result
            assert (await store.get_action(begun.action_id)).trigger == result
            assert (await store.get_action(begun.action_id)).states == (Transition(ActionState.NEW, minutes(2)),)
            assert (await store.get_event(result.event_id)).decisions == creating(following, begun).decisions
            assert [await take(store), await take(store)] == [following.action_id, begun.action_id]

    async def test_a_second_result_is_decided_upon_with_the_first_one(self) -> None:
        sample = Sample()
        first, second = sample.event("Deployed", minutes(1)), sample.event("Deployed", minutes(2))
        seen: list[Progress] = []

        def decide(progress: Progress) -> None:
            seen.append(progress)

        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            await store.finish(action_id, first, always(NOTHING))
            assert await store.finish(action_id, second, decide) is False
            assert (seen[-1].state, seen[-1].result) == (ActionState.SUCCESS, first)
            assert seen[-1].siblings == (Sibling("first", 0, ActionState.SUCCESS),)
            with raises(NotFoundError):
                await store.get_event(second.event_id)
            assert (await store.get_action(action_id)).result == first

    async def test_an_action_is_finished_once_whatever_is_decided(self) -> None:
        sample = Sample()
        late = sample.event("FATAL", minutes(2))
        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            await store.finish(action_id, sample.event("Deployed"), always(NOTHING))
            with raises(ConflictError):
                await store.finish(action_id, late, always(creating(sample.action())))
            with raises(NotFoundError):
                await store.get_event(late.event_id)
            assert (await store.get_action(action_id)).state is ActionState.SUCCESS
            assert await store.claim(WORKER, NOON) is None

    async def test_an_action_that_was_not_handed_out_cannot_be_finished(self) -> None:
        sample = Sample()
        action = sample.action()
        async with self.connect() as store:
            await start(store, action)
            with raises(ConflictError):
                await store.finish(action.action_id, sample.event(), always(NOTHING))
            assert await take(store) == action.action_id

    async def test_an_error_while_deciding_goes_to_the_caller_and_nothing_changes(self) -> None:
        class OwnError(Exception):
            pass

        def decide(_: Progress) -> Outcome:
            raise OwnError

        sample = Sample()
        result = sample.event("Deployed")
        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            with raises(OwnError):
                await store.finish(action_id, result, decide)
            assert (await store.get_action(action_id)).state is ActionState.PENDING
            with raises(NotFoundError):
                await store.get_event(result.event_id)
            assert await store.finish(action_id, result, always(NOTHING)) is True

    async def test_a_result_that_asks_for_a_step_again_is_refused_and_changes_nothing(self) -> None:
        sample = Sample()
        first = sample.action()
        twin = sample.action(correlation_id=first.correlation_id)
        result = sample.event("Deployed", minutes(5))
        async with self.connect() as store:
            await start(store, first)
            await take(store)
            with raises(ConflictError):
                await store.finish(first.action_id, result, always(creating(sample.action(), twin)))
            action = (await store.get_execution(first.correlation_id)).actions[0]
            assert (action.state, action.result) == (ActionState.PENDING, None)
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [first.correlation_id]
            with raises(NotFoundError):
                await store.get_event(result.event_id)
            assert await store.claim(WORKER, NOON) is None

    async def test_of_parallel_results_that_ask_for_the_same_step_one_creates_it(self) -> None:
        sample = Sample()
        first = sample.action()
        siblings = [sample.action(correlation_id=first.correlation_id, step_id=f"s{n}", step_index=n) for n in range(1, 20)]
        joined = [sample.action(correlation_id=first.correlation_id, step_id="join", step_index=99) for _ in range(20)]

        async def finish(store: Store, number: int) -> bool:
            def decide(progress: Progress) -> Outcome:
                exists = any(sibling.step_id == "join" for sibling in progress.siblings)
                return NOTHING if exists else creating(joined[number])

            action_id = (first, *siblings)[number].action_id
            return await store.finish(action_id, sample.event("Deployed"), decide)

        async with self.connect() as store:
            await start(store, first, *siblings)
            for _ in range(20):
                await take(store)
            assert all(await asyncio.gather(*(finish(store, number) for number in range(20))))
            actions = (await store.get_execution(first.correlation_id)).actions
            assert [action.step_id for action in actions].count("join") == 1
            assert [action.state.is_finished for action in actions] == [True] * 20 + [False]

    async def test_the_same_result_sent_many_times_at_once_is_applied_once(self) -> None:
        sample = Sample()

        def decide(progress: Progress) -> Outcome | None:
            return NOTHING if progress.result is None else None

        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            results = [sample.event("Deployed") for _ in range(20)]
            applied = await asyncio.gather(*(store.finish(action_id, result, decide) for result in results))
            assert sorted(applied) == [False] * 19 + [True]
            records = await store.list_events(EventFilter(event_name="Deployed"), 0, 50)
            assert event_ids(records) == [results[applied.index(True)].event_id]

    # ------------------------------------------------------------------------------------------------------------ audit

    async def test_executions_are_listed_latest_activity_first(self) -> None:
        sample = Sample()
        a, b, c = (sample.action() for _ in range(3))
        async with self.connect() as store:
            for number, action in enumerate((a, b, c)):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [x.correlation_id for x in (c, b, a)]
            assert await take(store, minutes(3)) == a.action_id
            assert await take(store, minutes(4)) == b.action_id
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [x.correlation_id for x in (b, a, c)]
            await store.finish(a.action_id, sample.event("Deployed", minutes(5)), always(NOTHING))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [x.correlation_id for x in (a, b, c)]

    async def test_activity_does_not_move_back_when_a_clock_does(self) -> None:
        sample = Sample()
        a, b = sample.action(), sample.action()
        async with self.connect() as store:
            await start(store, a, event=sample.event(at=minutes(1)))
            await start(store, b, event=sample.event(at=minutes(2)))
            await take(store, minutes(3))
            await store.finish(a.action_id, sample.event("Deployed", minutes(0)), always(NOTHING))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [a.correlation_id, b.correlation_id]

    async def test_activity_is_the_latest_time_when_several_things_happen_at_once(self) -> None:
        sample = Sample()
        first, other = sample.action(), sample.action()
        more = [sample.action(step_index=n, step_id=f"s{n}", correlation_id=first.correlation_id) for n in range(1, 4)]
        async with self.connect() as store:
            await start(store, first, *more)
            times = [minutes(1), minutes(9), minutes(2), minutes(3)]
            await asyncio.gather(*(take(store, at) for at in times))
            await start(store, other, event=sample.event(at=minutes(5)))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [first.correlation_id, other.correlation_id]

    async def test_lists_are_paged(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(7)]
        async with self.connect() as store:
            events = [await start(store, action, event=sample.event(at=minutes(number))) for number, action in enumerate(actions)]
            runs = [action.correlation_id for action in reversed(actions)]
            newest = [event.event_id for event in reversed(events)]
            for begin, size in ((0, 3), (3, 3), (6, 3), (7, 3), (0, 0), (100, 5)):
                assert ids(await store.list_executions(ANYTHING, begin, size)) == runs[begin : begin + size]
                assert event_ids(await store.list_events(ANY_EVENT, begin, size)) == newest[begin : begin + size]

    async def test_each_filter_of_executions_works_alone(self) -> None:
        sample = Sample()
        plain = sample.action()
        other = sample.action(
            flow_name="Other", step_id="x", step_index=4, name="Check", pack_name="Tester", pack_labels={"env": "prod", "a": "b"}
        )
        async with self.connect() as store:
            await start(store, plain)
            await start(store, other)
            for which in (
                ExecutionFilter(flow_name="Other"),
                ExecutionFilter(step_id="x"),
                ExecutionFilter(action_name="Check"),
                ExecutionFilter(action_pack_name="Tester"),
                ExecutionFilter(action_pack_labels={"env": "prod"}),
                ExecutionFilter(action_pack_labels={"env": "prod", "a": "b"}),
                ExecutionFilter("Other", "x", "Check", "Tester", {"a": "b"}),
            ):
                assert ids(await store.list_executions(which, 0, 10)) == [other.correlation_id], which
            for which in (
                ExecutionFilter(flow_name="other"),
                ExecutionFilter(step_id=""),
                ExecutionFilter(action_name="Deploy", action_pack_name="Tester"),
                ExecutionFilter(action_pack_labels={"env": "test"}),
                ExecutionFilter(action_pack_labels={"b": "a"}),
                ExecutionFilter(flow_name="Deploy", step_id="x"),
            ):
                assert ids(await store.list_executions(which, 0, 10)) == [], which
            assert len(await store.list_executions(ExecutionFilter(action_pack_labels={}), 0, 10)) == 2

    async def test_one_action_must_satisfy_the_whole_filter(self) -> None:
        sample = Sample()
        first = sample.action(name="Deploy", pack_labels={"env": "prod"})
        second = sample.action(
            step_id="second", step_index=1, name="Check", pack_name="Tester", correlation_id=first.correlation_id
        )
        async with self.connect() as store:
            await start(store, first, second)
            matching = [
                ExecutionFilter("Deploy", "second", "Check", "Tester", {}),
                ExecutionFilter("Deploy", "first", "Deploy", "Worker", {"env": "prod"}),
            ]
            for which in matching:
                found = await store.list_executions(which, 0, 10)
                assert ids(found) == [first.correlation_id]
                assert len(found[0].actions) == 2
            split = [
                ExecutionFilter(step_id="first", action_name="Check"),
                ExecutionFilter(step_id="second", action_pack_name="Worker"),
                ExecutionFilter(action_name="Check", action_pack_labels={"env": "prod"}),
                ExecutionFilter(action_name="Deploy", action_pack_name="Tester"),
            ]
            for which in split:
                assert ids(await store.list_executions(which, 0, 10)) == [], which

    async def test_events_are_listed_newest_first_with_each_filter(self) -> None:
        sample = Sample()
        other = PackRef("Other", "Other")
        async with self.connect() as store:
            asked, ticked, told = sample.event("Asked"), sample.event("Ticked", minutes(-5)), sample.event("Asked", pack=other)
            await store.record(asked, Outcome((decision("A"), decision("B"), decision("A", step_index=1))))
            await store.record(ticked, Outcome((decision("B"),)))
            await store.record(told, NOTHING)
            expected = {
                ANY_EVENT: [told, ticked, asked],
                EventFilter(event_name="Asked"): [told, asked],
                EventFilter(pack_name="Watcher"): [ticked, asked],
                EventFilter(event_name="Asked", pack_name="Watcher"): [asked],
                EventFilter(flow_name="B"): [ticked, asked],
                EventFilter(flow_name="B", event_name="Ticked"): [ticked],
                EventFilter(flow_name="B", pack_name="Other"): [],
                EventFilter(flow_name="C"): [],
                EventFilter(event_name="asked"): [],
            }
            for which, events in expected.items():
                found = await store.list_events(which, 0, 10)
                assert event_ids(found) == [event.event_id for event in events], which
                assert [record.event for record in found] == events
            assert (await store.list_events(ANY_EVENT, 2, 1))[0].decisions == (
                decision("A"),
                decision("B"),
                decision("A", step_index=1),
            )
            of_a = (await store.list_events(EventFilter(flow_name="A"), 0, 10))[0]
            assert of_a.decisions == (decision("A"), decision("A", step_index=1))

    # ----------------------------------------------------------------------------------------------------------- growth

    async def test_purging_removes_executions_without_activity_and_events_that_nothing_refers_to(self) -> None:
        sample = Sample()
        old, revived, young = (sample.action() for _ in range(3))
        async with self.connect() as store:
            lonely = sample.event(at=minutes(0))
            await store.record(lonely, Outcome((decision("Deploy"),)))
            of_old = await start(store, old, event=sample.event(at=minutes(0)))
            of_revived = await start(store, revived, event=sample.event(at=minutes(1)))
            await start(store, young, event=sample.event(at=minutes(10)))
            recent = sample.event(at=minutes(10))
            await store.record(recent, NOTHING)
            assert await take(store, minutes(2)) == old.action_id
            result = sample.event("Deployed", minutes(3))
            await store.finish(old.action_id, result, always(Outcome((decision("Deploy"),))))
            assert await take(store, minutes(11)) == revived.action_id

            assert await store.purge(minutes(10)) == Purged(executions=1, events=3, more=False)
            for gone in (lonely, of_old, result):
                with raises(NotFoundError):
                    await store.get_event(gone.event_id)
            with raises(NotFoundError):
                await store.get_execution(old.correlation_id)
            with raises(NotFoundError):
                await store.get_action(old.action_id)
            assert (await store.get_event(of_revived.event_id)).event == of_revived
            assert (await store.get_event(recent.event_id)).event == recent
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [revived.correlation_id, young.correlation_id]
            assert len(await store.list_events(EventFilter(flow_name="Deploy"), 0, 10)) == 2
            assert await take(store) == young.action_id
            assert await store.purge(minutes(10)) == Purged(executions=0, events=0, more=False)

    async def test_an_event_stays_as_long_as_one_execution_refers_to_it(self) -> None:
        sample = Sample()
        quiet, busy = sample.action(), sample.action(name="Check")
        async with self.connect() as store:
            trigger = await start(store, quiet, busy)
            await store.claim(WORKER, minutes(10), action_name="Check")
            assert await store.purge(minutes(5)) == Purged(executions=1, events=0, more=False)
            assert (await store.get_action(busy.action_id)).trigger == trigger
            assert await store.purge(minutes(15)) == Purged(executions=1, events=1, more=False)
            with raises(NotFoundError):
                await store.get_event(trigger.event_id)

    async def test_purging_stops_at_its_bound_and_goes_on_when_called_again(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(5)]
        async with self.connect() as store:
            for number, action in enumerate(actions):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert (await store.purge(minutes(100), limit=2)).more is True
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [x.correlation_id for x in reversed(actions[2:])]
            while (await store.purge(minutes(100), limit=2)).more:
                pass
            assert list(await store.list_executions(ANYTHING, 0, 10)) == []
            assert list(await store.list_events(ANY_EVENT, 0, 10)) == []

    async def test_an_action_that_was_purged_while_it_waited_is_not_handed_out(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(4)]
        async with self.connect() as store:
            for number, action in enumerate(actions):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert await take(store, minutes(50)) == actions[0].action_id
            await store.purge(minutes(3))
            assert await take(store) == actions[3].action_id
            assert await store.claim(WORKER, NOON) is None
            with raises(NotFoundError):
                await store.finish(actions[1].action_id, sample.event(), always(NOTHING))
            later = sample.action()
            await start(store, later)
            assert await take(store) == later.action_id

    # ------------------------------------------------------------------------------------------------- opening and closing

    async def test_everything_is_there_after_opening_again(self) -> None:
        sample = Sample()
        pack, flow, item = sample.pack(env="prod"), sample.flow(), DataItem("key", "text/plain", b"value")
        pending, waiting = sample.action(), sample.action(pack_labels={"env": "prod"})
        async with self.connect() as store:
            await store.save_pack(pack)
            await store.save_flow(flow)
            await store.save_item(item)
            await start(store, pending)
            await start(store, waiting)
            assert await take(store, minutes(1)) == pending.action_id
            runs = await store.list_executions(ANYTHING, 0, 10)
            events = await store.list_events(ANY_EVENT, 0, 10)
        async with self.connect() as store:
            assert list(await store.list_packs()) == [pack]
            assert list(await store.list_flows()) == [flow]
            assert list(await store.list_items()) == [item]
            assert list(await store.list_executions(ANYTHING, 0, 10)) == list(runs)
            assert list(await store.list_events(ANY_EVENT, 0, 10)) == list(events)
            assert await take(store, minutes(2)) == waiting.action_id
            assert await store.claim(WORKER, NOON) is None
            assert await store.finish(pending.action_id, sample.event("Deployed"), always(NOTHING)) is True
            younger = sample.action()
            await start(store, younger)
            assert await take(store) == younger.action_id

    async def test_what_was_asked_before_closing_is_done(self) -> None:
        sample = Sample()
        store = self.connect()
        await store.open()
        events = [sample.event() for _ in range(50)]
        tasks = [asyncio.ensure_future(store.record(event, NOTHING)) for event in events]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*tasks)
        async with self.connect() as again:
            assert len(await again.list_events(ANY_EVENT, 0, 100)) == 50

    async def test_a_closed_store_is_unavailable_and_may_be_closed_twice(self) -> None:
        sample = Sample()
        store = self.connect()
        await store.open()
        await store.ping()
        await store.close()
        await store.close()
        for verb in (
            store.ping(),
            store.list_packs(),
            store.save_pack(sample.pack()),
            store.record(sample.event(), NOTHING),
            store.claim(WORKER, NOON),
            store.finish("x", sample.event(), always(NOTHING)),
            store.list_executions(ANYTHING, 0, 1),
            store.purge(NOON),
        ):
            with raises(UnavailableError):
                await verb

    async def test_errors_of_the_driver_do_not_get_out(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.save_flow(FlowVersion("same", Flow("A"), NOON))
            with raises(FlyteError):
                await store.save_flow(FlowVersion("same", Flow("B"), NOON))
            assert [version.flow.name for version in await store.list_flows()] == ["A"]
            await store.record(sample.event(pack=SENDER), NOTHING)
