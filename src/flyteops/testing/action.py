# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of actions: creation, hand-out, results."""

import asyncio

from msgspec import UNSET

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import (
    Action,
    ActionSnapshot,
    ActionState,
    Evaluation,
    Execution,
    NewAction,
    PackRef,
    Sibling,
    Transition,
)
from flyteops.storage.base import Claimed, ClaimOrder, Store
from flyteops.storage.query import EventFilter
from flyteops.testing.case import ANYTHING, StoreCase, before, event_ids, ids, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, creating, minutes
from flyteops.transition import LateResult


class ActionContract(StoreCase):
    """Actions: creation, hand-out, results."""

    # ------------------------------------------------------------------------ the life of an action

    async def test_an_action_goes_from_new_over_pending_to_success(self) -> None:
        sample = Sample()
        new = sample.action(context={"chännel": "☃", "empty": ""}, pack_labels={"env": "prod"})
        async with self.connect() as store:
            trigger = await start(store, new, event=sample.event(at=minutes(1)))
            assert (await store.get_action(new.action_id)).states == (
                Transition(ActionState.NEW, minutes(1)),
            )

            assert list(await store.claim(WORKER, minutes(2))) == [
                Claimed(new.action_id, "Deploy", new.input, revision=1)
            ]
            result = sample.event("Deployed", minutes(3), pack=WORKER, payload=b"null")
            assert await store.finish(new.action_id, result, always(NOTHING)) == NOTHING

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

    # --------------------------------------------------------------------------------------- claims

    async def test_nothing_is_handed_out_when_nothing_waits(self) -> None:
        async with self.connect() as store:
            assert not await store.claim(WORKER, NOON)
            await start(store, Sample().action())
            await take(store)
            assert not await store.claim(WORKER, NOON)
            assert not await store.claim(WORKER, NOON)

    async def test_the_oldest_action_is_handed_out_first_whatever_its_command(self) -> None:
        sample = Sample()
        actions = [
            sample.action(name=f"Command{n % 3}", pack_labels={"env": "prod"} if n % 2 else {})
            for n in range(150)
        ]
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
            for labels in (
                {"env": "test"},
                {"env": "prod", "more": "x"},
                {"prod": "env"},
                {"env": "Prod"},
            ):
                await start(store, sample.action(pack_labels=labels))
            await start(store, sample.action(pack_name="worker"))
            await start(store, sample.action(pack_name="Other"))
            assert not await store.claim(WORKER, NOON)
            wanted: list[dict[str, str]] = [{"zone": "eu", "env": "prod"}, {"env": "prod"}, {}]
            actions = [sample.action(pack_labels=labels) for labels in wanted]
            for action in actions:
                await start(store, action)
            assert await take(store, pack=PackRef("Worker", "Worker")) == actions[2].action_id
            assert await take(store) == actions[0].action_id
            assert (
                await take(store, pack=PackRef("x", "Worker", {"env": "prod"}))
                == actions[1].action_id
            )
            assert not await store.claim(WORKER, NOON)

    async def test_the_oldest_is_found_among_all_queues_that_a_pack_serves(self) -> None:
        sample = Sample()
        few = {"a": "1", "b": "2", "c": "3"}
        many = {**few, **{f"l{number}": "x" for number in range(9)}}
        asked = [
            {},
            {"c": "3"},
            {"a": "2"},
            {"b": "2", "c": "3"},
            many,
            {"a": "1"},
            {"x": "1"},
            few,
            {"l0": "x", "l7": "x"},
        ]
        async with self.connect() as store:
            actions = [
                await start_one(store, sample.action(pack_labels=labels, name=command))
                for labels in asked
                for command in ("Build", "Deploy", "Test")
            ]
            for labels in (few, many):
                pack = PackRef("Worker", "Worker", labels)
                mine = [
                    action for action in actions if action.pack_labels.items() <= labels.items()
                ]
                deploys = [action.action_id for action in mine if action.name == "Deploy"]
                assert [await take_one(store, pack, "Deploy") for _ in deploys[:2]] == deploys[:2]
                others = [
                    action.action_id for action in mine if action.action_id not in deploys[:2]
                ]
                # A returned action is the oldest again, in any queue.
                first = await take_one(store, pack)
                assert first == others[0]
                assert await take_one(store, pack) == others[1]
                await store.release(first, NOON, lambda _: None, counts=False)
                left = [first, *others[2:]]
                assert [await take_one(store, pack) for _ in left] == left
                assert await take_one(store, pack) is None
                actions = [action for action in actions if action not in mine]

    async def test_a_claim_may_ask_for_one_command(self) -> None:
        sample = Sample()
        deploy, check = sample.action(name="Deploy"), sample.action(name="Check")
        async with self.connect() as store:
            await start(store, deploy, check)
            assert not await store.claim(WORKER, NOON, action_name="Nothing")
            (claimed,) = await store.claim(WORKER, NOON, action_name="Check")
            assert (claimed.action_id, claimed.name) == (check.action_id, "Check")
            assert not await store.claim(WORKER, NOON, action_name="Check")
            assert await take(store) == deploy.action_id

    async def test_parallel_claims_hand_out_each_action_once_and_oldest_first(self) -> None:
        sample = Sample()
        actions = [
            sample.action(name=f"Command{n % 4}", pack_labels={"env": "prod"} if n % 3 else {})
            for n in range(200)
        ]
        taken: list[list[str]] = []

        async def work(store: Store) -> None:
            own: list[str] = []
            taken.append(own)
            while claimed := await store.claim(WORKER, NOON):
                own.append(claimed[0].action_id)

        async with self.connect() as store:
            for action in actions:
                await start(store, action)
            await asyncio.gather(*(work(store) for _ in range(50)))
            order = {action.action_id: number for number, action in enumerate(actions)}
            assert sorted(order[action_id] for own in taken for action_id in own) == list(
                range(200)
            )
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
                if not claimed:
                    await store.ping()  # lets the other tasks run
                else:
                    taken.append(claimed[0].action_id)

        async with self.connect() as store:
            await asyncio.gather(
                *(start(store, action) for action in actions), *(work(store) for _ in range(5))
            )
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
            while await store.claim(WORKER, NOON):
                rest += 1
            states = [run.actions[0].state for run in await store.list_executions(ANYTHING, 0, 20)]
            assert states == [ActionState.PENDING] * 10
            assert 5 <= rest <= 10

    # -------------------------------------------------------------------------------------- results

    async def test_a_result_is_decided_upon_with_the_execution_as_it_stands(self) -> None:
        sample = Sample()
        first = sample.action(context={"a": "ä"}, pack_labels={"env": "prod"})
        second = sample.action(step_id="second", step_index=1, correlation_id=first.correlation_id)
        seen: list[ActionSnapshot] = []

        def decide(snapshot: ActionSnapshot) -> Evaluation:
            seen.append(snapshot)
            return NOTHING

        async with self.connect() as store:
            await start(store, first, second)
            await take(store)
            await store.finish(first.action_id, sample.event("Deployed"), decide)
        expected = ActionSnapshot(
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
            siblings=(
                Sibling("first", 0, ActionState.PENDING),
                Sibling("second", 1, ActionState.NEW),
            ),
            attempt=1,
            revision=1,
        )
        assert seen
        assert seen[-1] == expected

    async def test_what_happened_to_an_action_after_it_was_handed_out_is_known_with_its_result(
        self,
    ) -> None:
        sample = Sample()
        released, joined = sample.action(), sample.action()
        second = sample.action(step_id="second", step_index=1, correlation_id=joined.correlation_id)
        seen: list[ActionSnapshot] = []

        def decide(snapshot: ActionSnapshot) -> Evaluation:
            seen.append(snapshot)
            return NOTHING

        async with self.connect() as store:
            await start(store, released, joined)
            await asyncio.gather(take(store), take(store))
            await store.release(released.action_id, minutes(1), lambda _: None, counts=False)
            with raises(ConflictError):
                await store.finish(released.action_id, sample.event("Deployed"), decide)
            assert seen[-1].state is ActionState.NEW
            await start(store, second)
            await store.finish(joined.action_id, sample.event("Deployed"), decide)
            assert [sibling.step_id for sibling in seen[-1].siblings] == ["first", "second"]

    async def test_a_result_of_what_was_removed_since_it_was_handed_out_is_refused(self) -> None:
        sample = Sample()
        removed = sample.action()
        async with self.connect() as store:
            await start(store, removed)
            await take(store)
            await store.purge(before(minutes(60)))
            with raises(NotFoundError):
                await store.finish(removed.action_id, sample.event("Deployed"), always(NOTHING))

    async def test_what_follows_from_a_result_is_stored_with_it(self) -> None:
        sample = Sample()
        first = sample.action()
        following = sample.action(
            step_id="second", step_index=1, correlation_id=first.correlation_id
        )
        begun = sample.action(flow_name="Other", flow_uuid="uuid-of-other")
        result = sample.event("Deployed", minutes(2))
        async with self.connect() as store:
            await start(store, first)
            await take(store)
            await store.finish(first.action_id, result, always(creating(following, begun)))
            actions = (await store.get_execution(first.correlation_id)).actions
            assert [action.action_id for action in actions] == [
                first.action_id,
                following.action_id,
            ]
            assert actions[0].result == actions[1].trigger == result
            assert (await store.get_action(begun.action_id)).trigger == result
            assert (await store.get_action(begun.action_id)).states == (
                Transition(ActionState.NEW, minutes(2)),
            )
            assert (await store.get_event(result.event_id)).decisions == creating(
                following, begun
            ).decisions
            assert [await take(store), await take(store)] == [following.action_id, begun.action_id]

    async def test_a_claim_with_a_result_hands_out_the_actions_that_follow_from_it(self) -> None:
        sample = Sample()
        first = sample.action()
        following = sample.action(
            step_id="second", step_index=1, correlation_id=first.correlation_id
        )
        others = sample.action(flow_name="Other", flow_uuid="uuid-of-other", pack_name="Other")
        outcome = creating(following, others)
        async with self.connect() as store:
            await start(store, first)
            await take(store)
            ruling, claimed = await store.finish_and_claim(
                first.action_id,
                sample.event("Deployed", minutes(2)),
                always(outcome),
                ClaimOrder(WORKER, minutes(2), limit=5),
            )
            assert ruling == outcome
            assert [each.action_id for each in claimed] == [following.action_id]
            assert (await store.get_action(following.action_id)).state is ActionState.PENDING
            assert (await store.get_action(others.action_id)).state is ActionState.NEW

    async def test_a_claim_with_a_result_that_is_refused_hands_out_nothing(self) -> None:
        sample = Sample()
        waiting = sample.action()
        async with self.connect() as store:
            await start(store, waiting)
            with raises(NotFoundError):
                await store.finish_and_claim(
                    "unknown",
                    sample.event("Deployed", minutes(2)),
                    always(NOTHING),
                    ClaimOrder(WORKER, minutes(2)),
                )
            # A claim that was made meanwhile is undone soon.
            while not (claimed := await store.claim(WORKER, minutes(3))):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert [each.action_id for each in claimed] == [waiting.action_id]

    async def test_a_second_result_is_decided_upon_with_the_first_one(self) -> None:
        sample = Sample()
        first, second = sample.event("Deployed", minutes(1)), sample.event("Deployed", minutes(2))
        seen: list[ActionSnapshot] = []

        def decide(snapshot: ActionSnapshot) -> None:
            seen.append(snapshot)

        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            await store.finish(action_id, first, always(NOTHING))
            assert await store.finish(action_id, second, decide) is None
            assert (seen[-1].state, seen[-1].result) == (ActionState.SUCCESS, first)
            assert seen[-1].siblings == (Sibling("first", 0, ActionState.SUCCESS),)
            with raises(NotFoundError):
                await store.get_event(second.event_id)
            assert (await store.get_action(action_id)).result == first

    async def test_a_result_keeps_whether_the_command_has_failed(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            for failure in (True, False, UNSET):
                following = sample.action(step_id="second", step_index=1)
                await start(store, sample.action())
                action_id = await take(store)
                result = sample.event("Deployed", failure=failure)
                await store.finish(action_id, result, always(creating(following)))
                ended = await store.get_action(action_id)
                assert (ended.result, ended.state) == (result, ActionState.SUCCESS)
                assert (await store.get_event(result.event_id)).event == result
                assert (await store.get_action(following.action_id)).trigger == result
                assert await take(store) == following.action_id

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
            assert not await store.claim(WORKER, NOON)

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

        def decide(_: ActionSnapshot) -> Evaluation:
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
            assert await store.finish(action_id, result, always(NOTHING)) == NOTHING

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
            assert not await store.claim(WORKER, NOON)

    async def test_of_parallel_results_that_ask_for_the_same_step_one_creates_it(self) -> None:
        sample = Sample()
        first = sample.action()
        siblings = [
            sample.action(correlation_id=first.correlation_id, step_id=f"s{n}", step_index=n)
            for n in range(1, 20)
        ]
        joined = [
            sample.action(correlation_id=first.correlation_id, step_id="join", step_index=99)
            for _ in range(20)
        ]

        async def finish(store: Store, number: int) -> Evaluation | LateResult | None:
            def decide(snapshot: ActionSnapshot) -> Evaluation:
                exists = any(sibling.step_id == "join" for sibling in snapshot.siblings)
                return NOTHING if exists else creating(joined[number])

            action_id = (first, *siblings)[number].action_id
            return await store.finish(action_id, sample.event("Deployed"), decide)

        async with self.connect() as store:
            await start(store, first, *siblings)
            for _ in range(20):
                await take(store)
            decisions = await asyncio.gather(*(finish(store, number) for number in range(20)))
            assert sum(decision != NOTHING for decision in decisions) == 1
            actions = (await store.get_execution(first.correlation_id)).actions
            assert [action.step_id for action in actions].count("join") == 1
            assert [action.state.is_finished for action in actions] == [True] * 20 + [False]

    async def test_the_same_result_sent_many_times_at_once_is_applied_once(self) -> None:
        sample = Sample()

        def decide(snapshot: ActionSnapshot) -> Evaluation | None:
            return NOTHING if snapshot.result is None else None

        async with self.connect() as store:
            await start(store, sample.action())
            action_id = await take(store)
            results = [sample.event("Deployed") for _ in range(20)]
            applied = await asyncio.gather(
                *(store.finish(action_id, result, decide) for result in results)
            )
            assert sorted(decision is None for decision in applied) == [False] + [True] * 19
            records = await store.list_events(EventFilter(event_name="Deployed"), 0, 50)
            assert event_ids(records) == [results[applied.index(NOTHING)].event_id]


async def start_one(store: Store, action: NewAction) -> NewAction:
    """Create an action, in an execution of its own."""
    await start(store, action)
    return action


async def take_one(store: Store, pack: PackRef, command: str | None = None) -> str | None:
    """Return the id of the action that the pack is handed, None if there is none."""
    claimed = await store.claim(pack, NOON, action_name=command)
    return claimed[0].action_id if claimed else None
