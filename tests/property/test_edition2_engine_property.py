"""The engine of edition 2 does what the model does, whatever the flow and whatever happens."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyteops.definition import (
    CommandDefinition,
    Correlation,
    Dependency,
    FlowDefinition,
    ForEach,
    Repeat,
    Retry,
    StepDefinition,
    TriggerPattern,
)
from flyteops.engine.edition2 import key_bytes
from flyteops.errors import ConflictError, LateError
from flyteops.simulator import Simulator, Task
from tests.support.engine import World
from tests.support.model import NOON

DATA = {"k": 1, "names": ["x", "y"]}
LABELS = {"env": "prod"}

# ------------------------------------------------------------------------------------------- flows

N = "Event.Payload.n|default(1)"

CRITERIA = [
    *[None] * 12,
    f"{{{{ {N} > 1 }}}}",
    f"{{{{ {N} < 3 }}}}",
    "{{ Event.Payload.ok }}",
    "{{ Context.c == 1 }}",
    "{{ Execution.FailedSteps|length > 0 }}",
    "{{ Trigger.Payload.n == 1 }}",
    f"{{{{ Vars.limit > {N} }}}}",
    "{{ datastore('k') == 1 }}",
    "{{ Steps.a.State == 'FAILED' }}",
    "{{ Steps.s1.Payload.n == 1 }}",
    "{{ Vars.bad }}",
]
FOR_TRIGGERS = [*[None] * 6, "{{ Event.Payload.n < 3 }}", "{{ Event.Payload.ok }}"]
CONTEXTS = [
    None,
    {"c": 1},
    {"c": f"{{{{ {N} }}}}"},
    {"d": "{{ Context.c }}", "e": {"of": ["{{ Event.Name }}", None]}},
    {"c": "{{ Steps.a.Payload }}", "f": "{{ Context }}"},
]
FAULTY = {"c": "{{ 1 + 'a' }}"}
INPUTS = [
    None,
    {"x": "{{ Event.Payload }}", "context": "{{ Context }}"},
    {"a": "{{ Steps.a.Payload }}", "failed": "{{ Execution.FailedSteps }}"},
    {"in": "{{ Steps.a.Input }}", "secret": "{{ secret('token') }}"},
    "{{ Steps }}",
    "{{ Trigger.Payload }} {{ Vars.limit }}",
    {
        "at": "{{ Execution.StartedAt }}",
        "done": "{{ Steps.s1.FinishedAt }}",
        "now": "{{ now() }}",
        "name": "{{ Steps.s1.Event }} {{ Steps.a.State }}",
    },
]
OF_GROUPS = [
    {
        "item": "{{ Item }}",
        "i": "{{ Index }}",
        "p": "{{ Previous.Payload }}",
        "s": "{{ Previous.Input }}",
        "at": "{{ Previous.StartedAt }} {{ Previous.FinishedAt }}",
    },
    {"sum": "{{ 1 + Item|default(2) }}"},
]
TIMES = [
    "3.001s",
    "5.003s",
    "7.007s",
    "11.013s",
    f"{{{{ {N} }}}}.000s",
    "{{ Context.c|default(4) }}.000s",
]
TRUTHS = [
    True,
    False,
    f"{{{{ {N} > 1 }}}}",
    "{{ Event.Name == 'X' }}",
    "{{ Event.Payload.ok }}",
    "{{ Index < 2 }}",
]


def some(draw: st.DrawFn, values: Sequence[Any], one_in: int = 3) -> Any:
    """One of the values, or mostly None."""
    return draw(st.sampled_from(values)) if draw(st.integers(1, one_in)) == 1 else None


@st.composite
def commands(draw: st.DrawFn) -> CommandDefinition:
    kind = draw(st.integers(1, 8))
    if kind == 1:
        name, given = draw(
            st.sampled_from(
                [
                    ("Return", {"done": "{{ Context }}"}),
                    ("Fail", {"message": "no {{ Event.Payload.n }}"}),
                    ("SetData", {"key": "k", "value": "{{ Event.Payload.n }}"}),
                    ("SetData", {"key": "k"}),
                    ("SetData", {"key": "k", "value": 1}),
                ]
            )
        )
        return CommandDefinition(
            name=name,
            pack_name="Flyte",
            input=given,
            retry=some(draw, [Retry(on=("failed",), backoff="2.017s")]),
        )
    silence = some(draw, TIMES, 4)
    retry = Retry(
        attempts=draw(st.integers(1, 3)),
        backoff=draw(st.sampled_from(["0s", "1.019s"])),
        max_backoff=draw(st.sampled_from(["1.5s", "10m"])),
        on=draw(st.sampled_from([("failed",), ("lost",), ("failed", "lost")])),
        when=draw(st.sampled_from([True, True, *TRUTHS])),
    )
    return CommandDefinition(
        name=draw(st.sampled_from(["Do", "Make"])),
        pack_name="Worker",
        pack_labels=some(draw, [{"env": "prod"}, {"env": "{{ Event.Name }}"}], 8),
        input=draw(st.sampled_from(INPUTS)),
        timeout=silence,
        on_lost=draw(st.sampled_from([None, "retry", "fail", "ask"])) if silence else None,
        retry=retry if draw(st.booleans()) else None,
        fails_when=some(draw, TRUTHS, 5),
        expires=some(draw, TIMES, 8),
    )


@st.composite
def terms(draw: st.DrawFn) -> dict[str, Any]:
    """The terms of a step: its context, times, command and groups."""
    command = draw(st.none() | commands() | commands() | commands())
    for_each = repeat = None
    if command is not None:
        kind = draw(st.integers(1, 6))
        if kind == 1:
            items: Any = draw(
                st.sampled_from(
                    [
                        [1, "a", None],
                        [],
                        "{{ datastore('names') }}",
                        "{{ Event.Payload.list }}",
                        list(range(7)),
                    ]
                )
            )
            for_each = ForEach(
                in_=items,
                parallel=draw(st.integers(1, 3)),
                on_failure=draw(st.sampled_from(["continue", "stop"])),
            )
        elif kind == 2:
            repeat = Repeat(
                while_=draw(st.sampled_from(TRUTHS)),
                max=draw(st.integers(1, 3)),
                delay=some(draw, ["0s", "2.023s", "{{ Event.Payload.n }}.000s"]),
            )
        if (for_each or repeat) and command.pack_name == "Worker":
            given = draw(st.sampled_from([*OF_GROUPS, *INPUTS]))
            command = msgspec.structs.replace(command, input=given)
    return {
        "context": some(draw, [FAULTY], 20) or draw(st.sampled_from(CONTEXTS)),
        "delay": some(draw, TIMES, 5),
        "timeout": some(draw, TIMES, 5),
        "command": command,
        "for_each": for_each,
        "repeat": repeat,
    }


@st.composite
def result_patterns(draw: st.DrawFn, wanted: Sequence[str], *, names_steps: bool) -> TriggerPattern:
    return TriggerPattern(
        name=some(draw, ["X", "Y", "Error", "TimedOut", "Completed", "FATAL"]),
        pack_name=some(draw, ["Worker", "Flyte"], 6),
        pack_labels=some(draw, [LABELS, LABELS, LABELS, {"env": "{{ Vars.bad }}"}], 8),
        state=some(draw, ["SUCCEEDED", "FAILED"], 2),
        result_of=draw(st.sampled_from(wanted)) if names_steps else None,
    )


@st.composite
def dependents(draw: st.DrawFn, step_id: str, known: Sequence[str]) -> StepDefinition:
    wanted = tuple(draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)))
    kind = draw(st.sampled_from(["any", "any", "all", "all", "settled", "named"]))
    event: Any = None
    if kind in ("any", "all") and draw(st.booleans()):
        names_steps = draw(st.booleans())
        event = tuple(
            draw(st.lists(result_patterns(wanted, names_steps=names_steps), min_size=1, max_size=2))
        )
    depends_on: Any = Dependency(**{kind: wanted}) if kind != "named" else None
    if kind == "named":
        event = tuple(draw(result_patterns([each], names_steps=True)) for each in wanted)
    correlate = None
    if kind in ("any", "all") and draw(st.booleans()):
        correlate = Correlation(
            with_=draw(
                st.sampled_from(
                    [
                        "{{ Trigger.Payload.k }}",
                        "{{ Event.Payload.k }}",
                        "one",
                        "{{ Event.Payload }}",
                    ]
                )
            ),
            event="{{ Event.Payload.k }}",
            look_back=some(draw, ["9.029s", "1h"]),
        )
        event = tuple(
            draw(
                st.lists(
                    st.builds(
                        TriggerPattern,
                        pack_name=st.sampled_from(["Chat", "Chat", "Worker", "Flyte"]),
                        name=st.sampled_from([None, None, "Said", "X", "Error"]),
                        key=st.sampled_from([None, None, "one", "{{ Event.Payload.n }}"]),
                        pack_labels=st.sampled_from([None, None, None, {"env": "prod"}]),
                    ),
                    min_size=1,
                    max_size=2,
                )
            )
        )
    return StepDefinition(
        id=step_id,
        depends_on=depends_on,
        event=event,
        correlate=correlate,
        criteria=draw(st.sampled_from(CRITERIA)),
        **draw(terms()),
    )


@st.composite
def triggers(draw: st.DrawFn, step_id: str) -> StepDefinition:
    event: Any = TriggerPattern(
        pack_name="Chat",
        name=draw(st.sampled_from([None, "Said", "Said"])),
        pack_labels=some(draw, [LABELS], 5),
    )
    return StepDefinition(
        id=step_id, event=event, criteria=draw(st.sampled_from(FOR_TRIGGERS)), **draw(terms())
    )


@st.composite
def flows(draw: st.DrawFn, name: str = "flow", *, most: int = 7) -> FlowDefinition:
    steps = [draw(triggers(each)) for each in ("a", "b")[: draw(st.integers(1, 2))]]
    for number in range(draw(st.integers(1, most))):
        known = [step.id for step in steps]
        steps.append(draw(dependents(f"s{number}", known)))
    return FlowDefinition(
        name=name,
        timeout=some(draw, ["61.031s", "{{ Event.Payload.n }}m", "x"], 12),
        vars={"limit": 2, "bad": "{{ 1 + 'a' }}"},
        steps=tuple(draw(st.permutations(steps))),
    )


CHAT = TriggerPattern(pack_name="Chat", name="Said")


@st.composite
def waiting_flows(draw: st.DrawFn) -> FlowDefinition:
    """A flow whose steps wait for the events that start it as well."""
    steps = [StepDefinition(id="a", event=CHAT, command=some(draw, [draw(commands())]))]
    for number in range(draw(st.integers(1, 3))):
        known = [step.id for step in steps]
        wait = StepDefinition(
            id=f"s{number}",
            depends_on=Dependency(any=tuple(draw(st.sets(st.sampled_from(known), min_size=1)))),
            event=TriggerPattern(
                pack_name="Chat", key=draw(st.sampled_from([None, None, "{{ Event.Payload.n }}"]))
            ),
            correlate=Correlation(
                with_=draw(st.sampled_from(["one", "one", "{{ Trigger.Payload.n }}"])),
                event="{{ Event.Payload.k }}",
                look_back=some(draw, ["9.029s", "1h"]),
            ),
            criteria=draw(st.sampled_from([None, None, None, *CRITERIA])),
            context=draw(st.sampled_from(CONTEXTS)),
            timeout=some(draw, TIMES),
            command=draw(st.none() | commands()),
        )
        steps.append(wait)
    steps.append(draw(dependents("u", [step.id for step in steps])))
    return FlowDefinition(name="flow", vars={"limit": 2}, steps=tuple(steps))


@st.composite
def retrying_flows(draw: st.DrawFn) -> FlowDefinition:
    """A flow whose commands are retried, with little else that could happen."""
    retry = st.builds(
        Retry,
        attempts=st.integers(2, 3),
        backoff=st.sampled_from(["0s", "1.019s"]),
        on=st.sampled_from([("failed",), ("failed", "lost"), ("lost",)]),
        when=st.sampled_from([True, True, "{{ Event.Name == 'X' }}"]),
    )
    command = st.builds(
        CommandDefinition,
        name=st.just("Do"),
        pack_name=st.just("Worker"),
        input=st.sampled_from([None, "{{ Event.Payload }}"]),
        timeout=st.just("3.001s"),
        on_lost=st.sampled_from([None, "ask", "retry"]),
        retry=retry,
        fails_when=st.sampled_from([None, None, f"{{{{ {N} > 1 }}}}"]),
        expires=st.sampled_from([None, "5.001s"]),
    )
    group = draw(
        st.sampled_from(
            [
                {},
                {"for_each": ForEach(in_=[1, 2, 3], parallel=2)},
                {"repeat": Repeat(while_=True, max=2)},
            ]
        )
    )
    steps = [
        StepDefinition(id="a", event=CHAT, command=draw(command), **group),
        StepDefinition(id="s1", depends_on=("a",), command=draw(command)),
        draw(dependents("u", ["a", "s1"])),
    ]
    return FlowDefinition(name="flow", vars={"limit": 2}, steps=tuple(steps))


@st.composite
def others(draw: st.DrawFn) -> FlowDefinition:
    """A flow that the results and failures of the first one start."""
    pattern = TriggerPattern(
        pack_name=draw(st.sampled_from(["Worker", "Flyte"])),
        name=draw(st.sampled_from(["X", "StepFailed"])),
        state=some(draw, ["SUCCEEDED", "FAILED"]),
    )
    trigger = StepDefinition(id="t", event=pattern, **draw(terms()))
    return FlowDefinition(
        name="other", vars={"limit": 2}, steps=(trigger, draw(dependents("u", ["t"])))
    )


def distinct(definitions: Sequence[FlowDefinition]) -> list[FlowDefinition]:
    """The flows with durations of which no two are the same: ties of timers are not specified."""
    numbers = count(1)
    text = msgspec.json.encode(definitions).decode()
    text = re.sub(r'\.\d{3}s"', lambda _: f'.{next(numbers):03d}s"', text)
    return msgspec.json.decode(text, type=list[FlowDefinition])


objects = st.fixed_dictionaries(
    {
        "n": st.integers(0, 3),
        "k": st.sampled_from(["one", "one", "two", 1, True, None]),
        "ok": st.booleans(),
        "list": st.just([3, 4]),
    },
    optional={"message": st.just("m")},
)
payloads = objects | objects | objects | st.sampled_from([None, 7, "text", 2**70, {"n": "x"}])

# ----------------------------------------------------------------------------------------- playing


class Pair:
    """The model and the engine, to which the same happens."""

    def __init__(self, definitions: Sequence[FlowDefinition], *, hold_tasks: bool = False) -> None:
        definitions = distinct(definitions)
        more: Any = {"datastore": DATA, "failure_names": ["Bad"], "hold_tasks": hold_tasks}
        self.model = Simulator(definitions, now=NOON, **more)
        self.world = World(definitions, NOON, DATA, ["Bad"], hold_tasks=hold_tasks)

    def send(self, name: str, payload: Any, labels: Mapping[str, str]) -> None:
        self.model.send("Chat", name, payload, labels=labels)
        self.world.send("Chat", name, payload, labels)

    def take(self) -> bool:
        taken = self.model.take("Worker", labels=LABELS)
        row = self.world.take("Worker", LABELS)
        assert (taken is None) == (row is None)
        return row is not None

    def complete(
        self, number: int, attempt: int | None, name: str, payload: Any, *, failure: bool
    ) -> None:
        action = self.model._world.actions[number]
        lease = None if attempt is None else action.attempts[attempt].lease
        row = list(self.world.rows.values())[number]

        def by_model() -> None:
            self.model.complete(action.action_id, name, payload, failure=failure, lease=lease)

        def by_engine() -> None:
            self.world.complete(row, name, payload, failure=failure, attempt_number=attempt)

        assert outcome_of(by_model) == outcome_of(by_engine)

    def advance(self, by: timedelta) -> None:
        self.model.advance(by)
        self.world.advance(by)

    def cancel(self, number: int) -> None:
        execution = self.model.executions[number].execution_id
        other = list(self.world.documents)[number]
        one = outcome_of(lambda: self.model.cancel(execution))
        assert one == outcome_of(lambda: self.world.cancel(other))

    def run_tasks(self, data: st.DataObject) -> None:
        """Carry out all tasks, those of different executions in any order."""
        chosen: list[int] = []

        def choose(tasks: Sequence[Task]) -> int:
            order = [each.execution_id for each in self.model.executions]
            found = sorted(order.index(task.execution_id or "") for task in tasks)
            chosen.append(data.draw(st.sampled_from(found)))
            return [order.index(task.execution_id or "") for task in tasks].index(chosen[-1])

        def repeat(tasks: Sequence[Any]) -> int:
            order = list(self.world.documents)
            return [order.index(task.execution_id) for task in tasks].index(chosen.pop(0))

        self.model.run_tasks(choose)
        self.world.run_tasks(repeat)

    def check(self) -> None:
        found, wanted = seen_in_engine(self.world), seen_in_model(self.model)
        for part, value in wanted.items():
            assert found[part] == value, f"the {part} differ"


def outcome_of(call: Any) -> str:
    try:
        call()
    except (ConflictError, LateError) as error:
        return type(error).__name__
    return "done"


# -------------------------------------------------------------------------------------- comparison


def canonical(value: Any, ids: Mapping[str, str]) -> str:
    """A value as text, with ids that are the same in both worlds."""
    text = json.dumps(value, sort_keys=True, default=str)
    # Values are cut in messages, and an id in them is not as long in both worlds.
    text = re.sub(r"( must give [a-z0-9 ,]+, not ).{20,}?(?=\"})", r"\1…", text)
    text = text.replace("<token>", "secret token")
    for each in sorted(ids, key=len, reverse=True):
        text = text.replace(each, ids[each])
    return text


def seen_in_model(model: Simulator) -> dict[str, Any]:
    world = model._world
    ids = {each.execution_id: f"E{n}" for n, each in enumerate(world.executions)}
    ids |= {each.action_id: f"A{n}" for n, each in enumerate(world.actions)}
    visible = [each for each in world.events if not each.hidden]
    places = {each.event_id: n for n, each in enumerate(visible)}
    return {
        "events": [
            (
                each.pack,
                each.name,
                canonical(each.payload, ids),
                each.state,
                each.depth,
                each.after_failure,
                None if each.result_of is None else (ids[each.result_of[0]], each.result_of[1]),
                each.received_at,
            )
            for each in visible
        ],
        "executions": [
            {
                "flow": each.flow.name,
                "state": each.state,
                "started": each.started_at,
                "ended": each.ended_at,
                "depth": each.depth,
                "message": each.message,
                "output": canonical(each.output, ids),
                "failed": each.failed_steps,
                "results": [
                    run.step.id
                    for run in sorted(each.steps.values(), key=lambda run: run.result_number)
                    if not run.is_open
                ],
                "steps": {
                    run.step.id: (
                        run.state,
                        None if run.result is None else run.result.name,
                        canonical(run.context, ids),
                        run.waits,
                        run.finished_at,
                        run.number > 0 and run.started_at,
                    )
                    for run in each.steps.values()
                },
                "keys": {
                    run.step.id: key_bytes(run.key) for run in each.steps.values() if run.waits
                },
            }
            for each in world.executions
        ],
        "actions": [
            (
                ids[each.execution_id],
                each.step_id,
                each.index,
                each.pack,
                each.name,
                each.labels,
                canonical(each.input, ids),
                each.state,
                each.outcome,
                len(each.attempts),
                each.due_at,
            )
            for each in world.actions
        ],
        "decisions": Counter(
            (
                places.get(each.event_id, -1),
                each.flow,
                each.step,
                each.outcome,
                each.reason,
                None if each.execution_id is None else ids[each.execution_id],
            )
            for each in world.decisions
        ),
        "tasks": [
            (ids.get(task.execution_id or ""), {"send": "stepFailed"}.get(task.kind, task.kind))
            for task in world.tasks
        ],
        "data": dict(model.datastore),
    }


def seen_in_engine(world: World) -> dict[str, Any]:
    documents = [world.document(each) for each in world.documents]
    ids = {each.execution_id: f"E{n}" for n, each in enumerate(documents)}
    ids |= {each: f"A{n}" for n, each in enumerate(world.rows)}
    recorded = sorted(world.events.values(), key=lambda each: each.number)
    visible = [each.occurrence for each in recorded if each.is_seen]
    places = {each.event.event_id: n for n, each in enumerate(visible)}
    keys = {(each.execution_id, each.wait.step_id): each.wait.key for each in world.waits}
    return {
        "events": [
            (
                each.event.pack.name,
                each.event.name,
                canonical(msgspec.json.decode(each.event.payload), ids),
                each.state,
                each.depth,
                each.after_failure,
                None if each.step_id is None else (ids[each.execution_id or ""], each.step_id),
                each.event.received_at,
            )
            for each in visible
        ],
        "executions": [
            {
                "flow": each.flow_name,
                "state": each.state,
                "started": each.started_at,
                "ended": each.ended_at,
                "depth": each.depth,
                "message": each.message,
                "output": canonical(
                    None if each.output is msgspec.UNSET else msgspec.json.decode(each.output), ids
                ),
                "failed": list(each.failed_steps),
                "results": [
                    step_id
                    for step_id, record in sorted(
                        each.steps.items(), key=lambda item: item[1].order
                    )
                    if record.state is not None
                ],
                "steps": {
                    step_id: (
                        record.state,
                        record.result_name or None,
                        canonical(msgspec.json.decode(record.context), ids),
                        record.is_waiting,
                        record.finished_at,
                        record.started_at,
                    )
                    for step_id, record in each.steps.items()
                },
                "keys": {
                    step_id: keys[each.execution_id, step_id]
                    for step_id, record in each.steps.items()
                    if record.is_waiting
                },
            }
            for each in documents
        ],
        "actions": [
            (
                ids[row.execution_id],
                row.action.step_id,
                row.action.index,
                row.action.pack_name,
                row.action.name,
                row.action.pack_labels,
                canonical(msgspec.json.decode(row.action.input), ids),
                row.state,
                row.outcome,
                len(row.attempts),
                row.due_at,
            )
            for row in world.rows.values()
        ],
        "decisions": Counter(
            (
                places.get(event_id, -1),
                each.flow_name,
                each.step_id,
                each.outcome,
                each.reason,
                None if each.correlation_id is None else ids[each.correlation_id],
            )
            for event_id, each in world.decisions
        ),
        "tasks": [(ids[task.execution_id], task.kind) for task in world.tasks],
        "data": world.data,
    }


# -------------------------------------------------------------------------------------------- tests


def happen(pair: Pair, data: st.DataObject) -> None:
    """Let something happen in both worlds."""
    actions = pair.model._world.actions
    taken = [number for number, each in enumerate(actions) if each.attempts and not each.for_server]
    pending = [number for number in taken if actions[number].state == "PENDING"]
    kinds = ["send", "time", "take"] + (["complete"] * 6 if pending else ["take"])
    kinds += ["again"] if taken else []
    kinds += ["cancel"] if pair.model.executions and data.draw(st.integers(1, 9)) == 9 else []
    kind = data.draw(st.sampled_from(kinds))
    if kind == "send":
        labels = data.draw(st.sampled_from([{}, LABELS]))
        pair.send(
            data.draw(st.sampled_from(["Said", "Said", "Asked"])), data.draw(payloads), labels
        )
    elif kind == "take":
        while pair.take():
            pass
    elif kind == "time":
        seconds = data.draw(st.sampled_from([0.5, 1, 1, 3, 8, 3600, 8 * 86400]))
        pair.advance(timedelta(seconds=seconds))
    elif kind == "cancel":
        pair.cancel(data.draw(st.integers(0, len(pair.model.executions) - 1)))
    else:
        number = data.draw(st.sampled_from(pending if kind == "complete" else taken))
        attempts = len(actions[number].attempts)
        attempt: int | None = attempts - 1
        if kind == "again":
            attempt = data.draw(st.none() | st.integers(0, attempts - 1))
        name = data.draw(st.sampled_from(["X", "X", "X", "X", "Y", "Bad", "FATAL", "Error"]))
        pair.complete(
            number, attempt, name, data.draw(payloads), failure=data.draw(st.integers(1, 4)) == 4
        )


@settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(flows() | flows() | waiting_flows() | retrying_flows(), st.none() | others(), st.data())
def test_the_engine_does_what_the_model_does(flow, other, data):
    pair = Pair([flow] if other is None else [flow, other])
    pair.send("Said", data.draw(objects), LABELS)
    pair.check()
    for _ in range(data.draw(st.integers(1, 20))):
        happen(pair, data)
        pair.check()


@settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(flows(most=4) | waiting_flows() | retrying_flows(), others(), st.data())
def test_the_order_of_tasks_of_different_executions_is_free(flow, other, data):
    pair = Pair([flow, other], hold_tasks=True)
    for _ in range(data.draw(st.integers(1, 2))):
        pair.send("Said", data.draw(objects), LABELS)
    for _ in range(data.draw(st.integers(1, 14))):
        happen(pair, data)
        pair.check()
        if data.draw(st.booleans()):
            pair.run_tasks(data)
            pair.check()
