"""The strict reader of edition 2: each rule, with the message and the place of its problem."""

from pathlib import Path

import pytest

from flyteops.document import MAX_PROBLEMS, Document, parse_json, parse_yaml
from flyteops.errors import InputError
from flyteops.flow.edition2 import read_definition
from flyteops.flow.edition2.reader import edition_of

DATA = Path(__file__).parents[3] / "data" / "flow"
RUN = "id: a, event: {packName: P, name: E}, command: {packName: Q, name: C}"


def flow(*steps, more=""):
    lines = "".join(f"- {{{step}}}\n" for step in steps)
    return f"edition: 2\nname: f\n{more}steps:\n{lines}"


def triggered(more):
    return f"id: a, event: {{packName: P, name: E}}, {more}"


def commanded(more):
    return triggered(f"command: {{packName: Q, name: C, {more}}}")


def of_server(name, given):
    return triggered(f"command: {{packName: Flyte, name: {name}, input: {given}}}")


def problems_in(text):
    with pytest.raises(InputError) as caught:
        read_definition(parse_yaml(text.encode()))
    return [str(problem) for problem in caught.value.problems]


SHAPE = [
    pytest.param(
        "edition: 2\nname: f\nStep: []\n",
        ["Step (line 3, column 7): the key 'Step' is not known; did you mean 'steps'?"],
        id="unknown key of flow",
    ),
    pytest.param(
        flow("id: a, event: {packName: P, Name: E}"),
        [
            "steps[0].event.Name (line 4, column 38): the key 'Name' is not known; did you mean 'name'?"
        ],
        id="unknown key case",
    ),
    pytest.param(
        flow(RUN, more="zzz: 1\n"),
        ["zzz (line 3, column 6): the key 'zzz' is not known"],
        id="unknown key far",
    ),
    pytest.param(
        "Edition: 2\nname: f\nsteps:\n- {id: a, event: {packName: P}}\n",
        ["Edition (line 1, column 10): the key 'Edition' is not known; did you mean 'edition'?"],
        id="edition case",
    ),
    pytest.param(
        flow(RUN, more="tests: []\nmode: x\n"),
        [
            "tests (line 3, column 8): the key 'tests' is reserved for a later version; leave it out",
            "mode (line 4, column 7): the key 'mode' is reserved for a later version; leave it out",
        ],
        id="reserved",
    ),
    pytest.param(
        "edition: 2\nsteps:\n- {id: a, event: {packName: P}}\n",
        ["(line 1, column 1): 'name' is missing"],
        id="missing name",
    ),
    pytest.param(
        "- edition", ["(line 1, column 1): must be an object, not a list"], id="not an object"
    ),
    pytest.param(
        "edition: 2\nname: f\nsteps: []\n",
        ["steps (line 3, column 8): must hold at least one step"],
        id="no steps",
    ),
    pytest.param(
        "edition: 2\nname: f\n", ["(line 1, column 1): 'steps' is missing"], id="missing steps"
    ),
    pytest.param(
        flow(RUN, more="description: [x]\nenabled: 'no'\n"),
        [
            "description (line 3, column 14): must be text, not a list",
            "enabled (line 4, column 10): must be true or false, not text",
        ],
        id="wrong type",
    ),
    pytest.param(
        flow(RUN, more="timeout:\n"),
        [
            "timeout (line 3, column 9): must be a duration such as 30s, not null; leave the key out if it is not needed"
        ],
        id="null",
    ),
    pytest.param(
        "edition: 2\nname: ' '\nsteps:\n" + f"- {{{RUN}}}\n",
        ["name (line 2, column 7): must not be empty"],
        id="empty name",
    ),
    pytest.param(
        flow("id: a, event: {packName: '{{ Event.Name }}', name: E}"),
        [
            "steps[0].event.packName (line 4, column 29): is not rendered; write the name itself instead of a template"
        ],
        id="template name",
    ),
    pytest.param(
        flow(RUN, more='labels: {a: "x\\0"}\n'),
        ["labels.a (line 3, column 13): must not contain the character NUL (U+0000)"],
        id="labels",
    ),
    pytest.param(
        flow(RUN, more="timeout: 30\n"),
        ["timeout (line 3, column 10): must be a duration such as 30s, not a number"],
        id="duration number",
    ),
    pytest.param(
        flow(RUN, more="timeout: 5 minutes\n"),
        [
            "timeout (line 3, column 10): '5 minutes' is not a duration; write it as 30s, 5m, 1h30m or 2d"
        ],
        id="duration wrong",
    ),
    pytest.param(
        flow(RUN, more="timeout: 0s\n"),
        ["timeout (line 3, column 10): must be at least 1ms"],
        id="duration zero",
    ),
    pytest.param(
        flow(triggered("delay: tomorrow")),
        [
            "steps[0].delay (line 4, column 49): 'tomorrow' is not a duration; write it as 30s, 5m, 1h30m or 2d, or a time as 2026-03-01T12:30:00Z"
        ],
        id="delay",
    ),
    pytest.param(
        flow(triggered("criteria: Event.Payload.x == 1")),
        [
            "steps[0].criteria (line 4, column 52): is constant text; put the expression in braces: {{ ... }}"
        ],
        id="criteria braces",
    ),
    pytest.param(
        flow(triggered("criteria: true")),
        [
            "steps[0].criteria (line 4, column 52): is constant; write a template in {{ }}, or leave the key out"
        ],
        id="criteria true",
    ),
    pytest.param(
        flow(triggered("criteria: false")),
        [
            "steps[0].criteria (line 4, column 52): is constant; write a template in {{ }}, or leave the step out"
        ],
        id="criteria false",
    ),
    pytest.param(
        flow(triggered("criteria: '{{ 1 == 1 }}'")),
        [
            "steps[0].criteria (line 4, column 52): is constant: the template reads nothing; leave the key out if it is always true"
        ],
        id="criteria const",
    ),
    pytest.param(
        flow(commanded("failsWhen: Event.Payload.x")),
        [
            "steps[0].command.failsWhen (line 4, column 85): is constant text; put the expression in braces: {{ ... }}"
        ],
        id="failsWhen",
    ),
    pytest.param(
        flow(triggered("criteria: 1")),
        ["steps[0].criteria (line 4, column 52): must be a template in {{ }}, not a number"],
        id="criteria number",
    ),
    pytest.param(
        flow(RUN, "id: b, event: {resultOf: a, state: failed}"),
        [
            "steps[1].event.state (line 5, column 39): must be FAILED or SUCCEEDED, not 'failed'; did you mean 'FAILED'?"
        ],
        id="state",
    ),
    pytest.param(
        flow(commanded("timeout: 1m, retry: {attempts: 101}")),
        ["steps[0].command.retry.attempts (line 4, column 105): must be from 1 to 100"],
        id="count",
    ),
    pytest.param(
        flow(commanded("timeout: 1m, retry: {attempts: '3'}")),
        ["steps[0].command.retry.attempts (line 4, column 105): must be a whole number, not text"],
        id="count type",
    ),
    pytest.param(
        flow(triggered("forEach: {in: [1], parallel: 0}, command: {packName: Q, name: C}")),
        ["steps[0].forEach.parallel (line 4, column 71): must be from 1 to 10000"],
        id="parallel",
    ),
    pytest.param(
        flow(triggered("forEach: {in: hosts}, command: {packName: Q, name: C}")),
        [
            "steps[0].forEach.in (line 4, column 56): must be a list, or a template that gives one: {{ ... }}"
        ],
        id="forEach in",
    ),
    pytest.param(
        flow(triggered("forEach: {in: '{{ Event.Payload }} '}, command: {packName: Q, name: C}")),
        [
            "steps[0].forEach.in (line 4, column 56): must be exactly one expression {{ ... }}: with anything around it, it gives text, not a list"
        ],
        id="forEach in around",
    ),
    pytest.param(
        flow(commanded("retry: {on: [failure]}")),
        [
            "steps[0].command.retry.on[0] (line 4, column 87): must be failed or lost, not 'failure'; did you mean 'failed'?"
        ],
        id="retry on",
    ),
    pytest.param(
        flow(commanded("retry: {on: []}")),
        [
            "steps[0].command.retry.on (line 4, column 86): must hold at least one of failed and lost"
        ],
        id="retry on empty",
    ),
    pytest.param(
        flow(
            "id: a, schedule: {cron: '* * *', timeZone: Europe/Pairs, catchUp: lst}, command: {packName: Q, name: C}"
        ),
        [
            "steps[0].schedule.cron (line 4, column 28): the cron expression '* * *' has 3 fields; it needs 5: minute, hour, day, month, weekday",
            "steps[0].schedule.timeZone (line 4, column 47): 'Europe/Pairs' is not a time zone that this computer knows; did you mean 'Europe/Paris'? Write that, or install newer time zone data (the Python package tzdata)",
            "steps[0].schedule.catchUp (line 4, column 70): must be all, last or skip, not 'lst'; did you mean 'last'?",
        ],
        id="cron",
    ),
    pytest.param(
        flow(commanded("timeout: 50ms")),
        ["steps[0].command.timeout (line 4, column 83): must be at least 100ms"],
        id="timeout min",
    ),
    pytest.param(
        flow(
            RUN,
            "id: b, dependsOn: [a], event: {packName: P, key: '{{ Event.Payload.k }}'}, correlate: {with: x, lookBack: 2h}",
        ),
        ["steps[1].correlate.lookBack (line 5, column 110): must be at most 1h"],
        id="lookback",
    ),
    pytest.param(
        flow(RUN, more="concurrency: {whenFull: cancelOldst}\n"),
        [
            "concurrency.whenFull (line 3, column 25): must be cancelOldest, drop or queue, not 'cancelOldst'; did you mean 'cancelOldest'?"
        ],
        id="whenFull",
    ),
    pytest.param(
        flow(
            RUN,
            more="inputs: {type: objekt, propertys: {}, properties: {a: {minimum: '1', pattern: '('}}, required: a}\n",
        ),
        [
            "inputs.type (line 3, column 16): must be one of array, boolean, integer, null, number, object, string; did you mean 'object'?",
            "inputs.propertys (line 3, column 35): the keyword 'propertys' is not known; did you mean 'properties'?",
            "inputs.properties.a.minimum (line 3, column 65): must be a number",
            "inputs.properties.a.pattern (line 3, column 79): is not a regular expression: missing ): (",
            "inputs.required (line 3, column 96): must be a list of texts",
        ],
        id="inputs",
    ),
    pytest.param(
        flow(RUN, more="inputs: [a]\n"),
        [
            "inputs (line 3, column 9): must be a JSON Schema, an object or true or false, not a list"
        ],
        id="inputs list",
    ),
]

ORDER = [
    pytest.param(
        flow("id: 1st, event: {packName: P}"),
        [
            "steps[0].id (line 4, column 8): '1st' cannot be an id: letters, digits, '_' and '-' are allowed, and it begins with a letter or '_'"
        ],
        id="id form",
    ),
    pytest.param(
        flow(RUN, RUN),
        ["steps[1].id (line 5, column 8): the id 'a' is used twice; the first is steps[0]"],
        id="id twice",
    ),
    pytest.param(
        flow("event: {packName: P}"),
        ["steps[0] (line 4, column 3): 'id' is missing"],
        id="id missing",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [A]"),
        ["steps[1].dependsOn[0] (line 5, column 23): there is no step 'A'; did you mean 'a'?"],
        id="unknown dependsOn",
    ),
    pytest.param(
        flow(RUN.replace("id: a", "id: alpha"), "id: b, event: {resultOf: alpah}"),
        [
            "steps[1].event.resultOf (line 5, column 29): there is no step 'alpah'; did you mean 'alpha'?"
        ],
        id="unknown resultOf",
    ),
    pytest.param(
        flow(RUN, "id: c, dependsOn: [a]", "id: b, dependsOn: [a], event: {resultOf: c}"),
        [
            "steps[2].event.resultOf (line 6, column 45): step 'b' does not depend on 'c'; add it to dependsOn"
        ],
        id="resultOf outside",
    ),
    pytest.param(
        flow(
            RUN.replace("id: a", "id: build"),
            "id: b, dependsOn: [build], criteria: '{{ Steps.biuld.State == 1 }}'",
        ),
        ["steps[1].criteria (line 5, column 41): there is no step 'biuld'; did you mean 'build'?"],
        id="unknown Steps",
    ),
    pytest.param(
        flow(
            RUN.replace("id: a", "id: roll-back"),
            "id: b, dependsOn: [roll-back], criteria: '{{ Steps.roll-back == 1 }}'",
        ),
        [
            "steps[1].criteria (line 5, column 45): there is no step 'roll'; did you mean Steps[\"roll-back\"]?",
            "steps[1].criteria (line 5, column 45): there is no name 'back'",
        ],
        id="hyphen Steps",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a, c]", "id: c, dependsOn: [b]"),
        [
            "steps[2].dependsOn[0] (line 6, column 23): the steps depend on each other in a circle: b -> c -> b"
        ],
        id="circle",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: {all: [b]}"),
        [
            "steps[1].dependsOn.all[0] (line 5, column 29): the steps depend on each other in a circle: b -> b"
        ],
        id="self",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a], event: {packName: Qq, name: X}"),
        [
            "steps[1].event.packName (line 5, column 45): no result of 'a' comes from the pack 'Qq'; did you mean 'Q'?"
        ],
        id="wrong pack",
    ),
    pytest.param(
        flow(
            of_server("Ask", "{question: x}"),
            "id: b, dependsOn: [a], event: {packName: Flyte, name: Answerd}",
        ),
        [
            "steps[1].event.name (line 5, column 58): no result of 'a' has the name 'Answerd'; did you mean 'Answered'?"
        ],
        id="wrong name",
    ),
    pytest.param(
        flow(
            RUN,
            RUN.replace("id: a", "id: c").replace("Q", "R"),
            "id: b, dependsOn: {all: [a, c]}, event: {packName: Q}",
        ),
        [
            "steps[2].dependsOn.all[1] (line 6, column 32): step 'b' can never run: no pattern of its event matches a result of 'c'"
        ],
        id="all unmatched",
    ),
    pytest.param(
        flow(of_server("Return", "1"), "id: b, dependsOn: [a]", "id: c, dependsOn: [b]"),
        [
            "steps[1] (line 5, column 3): step 'b' can never run: it waits for a success of 'a' in vain",
            "steps[2] (line 6, column 3): step 'c' can never run: it waits for a success of 'b' in vain",
        ],
        id="after return",
    ),
]

COMBINATIONS = [
    pytest.param(
        flow("id: a, command: {packName: Q, name: C}"),
        [
            "steps[0] (line 4, column 3): 'event' is missing: step 'a' depends on no step, so it begins executions with an event, or with a schedule"
        ],
        id="no event",
    ),
    pytest.param(
        flow("id: a, event: {name: E}"),
        [
            "steps[0].event (line 4, column 18): 'packName' is missing: the event of a trigger needs a pack"
        ],
        id="no packName",
    ),
    pytest.param(
        flow(
            RUN,
            "id: b, dependsOn: [a], event: {packName: P}, schedule: {cron: '@daily'}, command: {packName: Q, name: C}",
        ),
        [
            "steps[1].dependsOn (line 5, column 22): does not go with a schedule: a scheduled step begins an execution",
            "steps[1].event (line 5, column 34): does not go with a schedule: a schedule takes the place of the event",
        ],
        id="schedule+",
    ),
    pytest.param(
        flow("id: a, event: {packName: P, state: FAILED}"),
        [
            "steps[0].event.state (line 4, column 39): is for results of other steps; a step without dependsOn begins executions"
        ],
        id="trigger state",
    ),
    pytest.param(
        flow("id: a, event: {packName: P, key: '{{ Event.Name }}'}"),
        ["steps[0].event.key (line 4, column 37): is for a wait; add correlate, or leave it out"],
        id="key without wait",
    ),
    pytest.param(
        flow(RUN, "id: b, event: [{resultOf: a}, {packName: Q}]"),
        [
            "steps[1].event[1] (line 5, column 34): 'resultOf' is missing: without dependsOn, either each pattern has one or none"
        ],
        id="some resultOf",
    ),
    pytest.param(
        flow(RUN, "id: b, event: {packName: P}, correlate: {event: '{{ Event.Name }}', with: x}"),
        ["steps[1].correlate (line 5, column 44): needs dependsOn: a wait follows other steps"],
        id="wait no deps",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a], correlate: {event: '{{ Event.Name }}', with: x}"),
        [
            "steps[1] (line 5, column 3): 'event' is missing: step 'b' waits for an event from outside"
        ],
        id="wait no event",
    ),
    pytest.param(
        flow(
            RUN,
            "id: b, dependsOn: [a], event: {packName: P, resultOf: a}, correlate: {event: '{{ Event.Name }}', with: x}",
        ),
        [
            "steps[1].event.resultOf (line 5, column 58): does not go with correlate: a wait ends with an event from outside, not with a result"
        ],
        id="wait resultOf",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a], event: {packName: P}, correlate: {with: x}"),
        [
            "steps[1].event (line 5, column 34): 'key' is missing: give it here, or correlate.event for all patterns"
        ],
        id="wait no key",
    ),
    pytest.param(
        flow(
            RUN,
            "id: b, dependsOn: [a], event: {packName: P}, correlate: {event: '{{ Event.Name }}'}",
        ),
        ["steps[1].correlate (line 5, column 60): 'with' is missing"],
        id="wait no with",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: {settled: [a]}, event: {packName: Q}"),
        [
            "steps[1].event (line 5, column 45): does not go with 'settled': the step runs when the others have ended, whatever their results"
        ],
        id="settled+event",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: {all: [a], any: [a]}"),
        ["steps[1].dependsOn.all (line 5, column 28): does not go with 'any'; give one of them"],
        id="two modes",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: {}"),
        ["steps[1].dependsOn (line 5, column 22): must have one of any, all and settled"],
        id="no mode",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: []"),
        ["steps[1].dependsOn (line 5, column 22): must hold at least one id of a step"],
        id="empty deps",
    ),
    pytest.param(
        flow(triggered("forEach: {in: [1]}")),
        ["steps[0].forEach (line 4, column 51): needs a command"],
        id="forEach alone",
    ),
    pytest.param(
        flow(triggered("repeat: {while: '{{ Event.Payload }}'}")),
        ["steps[0].repeat (line 4, column 50): needs a command"],
        id="repeat alone",
    ),
    pytest.param(
        flow(
            triggered("forEach: {in: [1]}, repeat: {while: true}, command: {packName: Q, name: C}")
        ),
        ["steps[0].repeat (line 4, column 70): does not go with 'forEach'; give one of them"],
        id="forEach+repeat",
    ),
    pytest.param(
        flow(commanded("onLost: ask")),
        [
            "steps[0].command.onLost (line 4, column 82): needs a timeout beside it: without one, a command never counts as lost"
        ],
        id="onLost",
    ),
    pytest.param(
        flow(commanded("retry: {attempts: 2}")),
        [
            "steps[0].command.retry (line 4, column 81): retries lost commands, which needs a timeout beside it; for failures, add on: [failed]"
        ],
        id="retry default",
    ),
    pytest.param(
        flow(commanded("retry: {on: [failed, lost]}")),
        [
            "steps[0].command.retry.on (line 4, column 86): 'lost' needs command.timeout: without one, a command never counts as lost"
        ],
        id="retry lost",
    ),
    pytest.param(
        flow(RUN, more="batch: {within: 1s}\ndebounce: {for: 1s}\n"),
        [
            "batch (line 3, column 8): does not go with 'debounce'; a flow has one of debounce, batch and threshold"
        ],
        id="limits",
    ),
    pytest.param(
        flow(RUN, "id: b, event: {packName: P}", more="batch: {within: 1s}\n"),
        ["batch (line 3, column 8): needs a flow with one trigger; this one has 2"],
        id="limits triggers",
    ),
    pytest.param(
        flow("id: a, event: {packName: Flyte, name: Completed}"),
        [
            "steps[0].event.name (line 4, column 42): results of the pack Flyte such as 'Completed' start no flow"
        ],
        id="server result trigger",
    ),
    pytest.param(
        flow(of_server("SetData", "{key: a, value: 1, ifAbsent: true}"), "id: b, dependsOn: [a]"),
        [
            "steps[1] (line 5, column 3): step 'b' must name the event, DataSet or DataUnchanged: the SetData of 'a' has a condition"
        ],
        id="conditional",
    ),
]

COMMANDS = [
    pytest.param(
        flow(of_server("SetDate", "{}")),
        [
            "steps[0].command.name (line 4, column 75): the pack Flyte has no command 'SetDate'; did you mean 'SetData'?"
        ],
        id="unknown command",
    ),
    pytest.param(
        flow("id: a, event: {packName: P}, command: {packName: Flyte, name: SetData}"),
        ["steps[0].command.input (line 4, column 42): is missing; it needs key, value"],
        id="no input",
    ),
    pytest.param(
        flow(of_server("SetData", "{Key: a, value: 1}")),
        [
            "steps[0].command.input.Key (line 4, column 97): the key 'Key' is not known; did you mean 'key'?"
        ],
        id="input key",
    ),
    pytest.param(
        flow(of_server("Ask", "{who: x}")),
        ["steps[0].command.input (line 4, column 87): 'question' is missing"],
        id="input missing",
    ),
    pytest.param(
        flow(of_server("IncrementData", "{key: a, by: many, expires: 1 day}")),
        [
            "steps[0].command.input.by (line 4, column 110): must be a number, not text",
            "steps[0].command.input.expires (line 4, column 125): '1 day' is not a duration; write it as 30s, 5m, 1h30m or 2d",
        ],
        id="input type",
    ),
    pytest.param(
        flow(of_server("SetData", "{key: a, value: 1, ifAbsent: true, ifEquals: 2}")),
        [
            "steps[0].command.input.ifEquals (line 4, column 136): does not go with 'ifAbsent'; give one of them"
        ],
        id="input exclusive",
    ),
    pytest.param(
        flow(of_server("SendEvent", "{event: Called}")),
        [
            "steps[0].command.input.event (line 4, column 101): 'Called' is an event of the server itself; choose another name"
        ],
        id="own event",
    ),
    pytest.param(
        flow(of_server("SendEvent", "{event: Returned}")),
        [
            "steps[0].command.input.event (line 4, column 101): 'Returned' is an event of the server itself; choose another name"
        ],
        id="own result",
    ),
    pytest.param(
        flow(of_server("DeleteData", "{key: ''}")),
        ["steps[0].command.input.key (line 4, column 100): must not be empty"],
        id="empty key",
    ),
    pytest.param(
        flow(
            of_server("Ask", "{question: x, where: {packname: Slack, channelId: 1}, options: [1]}")
        ),
        [
            "steps[0].command.input.where.packname (line 4, column 119): the key 'packname' is not known; did you mean 'packName'?",
            "steps[0].command.input.where.channelId (line 4, column 137): must be text, not a number",
            "steps[0].command.input.options[0] (line 4, column 151): must be text, not a number",
        ],
        id="where",
    ),
    pytest.param(
        flow(of_server("Fail", "text")),
        [
            "steps[0].command.input (line 4, column 88): must be an object, not text; it needs message"
        ],
        id="fail input",
    ),
]

TEMPLATES = [
    pytest.param(
        flow(triggered("criteria: '{{ Event.Payload.x == }}'")),
        [
            "steps[0].criteria (line 4, column 52): in the template, line 1, column 23: a value is expected, not '}}'"
        ],
        id="syntax",
    ),
    pytest.param(
        flow(triggered("criteria: '{{ Event.Payload.x|lenght }}'")),
        [
            "steps[0].criteria (line 4, column 52): in the template, line 1, column 20: the filter 'lenght' is unknown; did you mean 'length'?"
        ],
        id="filter",
    ),
    pytest.param(
        flow(triggered("criteria: '{{ event.Payload.x }}'")),
        ["steps[0].criteria (line 4, column 52): there is no name 'event'; did you mean 'Event'?"],
        id="unknown root",
    ),
    pytest.param(
        flow(RUN, more="vars: {x: '{{ Event.Name }}'}\n"),
        ["vars.x (line 3, column 11): Event is not available here: vars are constants"],
        id="vars Event",
    ),
    pytest.param(
        flow(triggered("criteria: '{{ Context.x }}'")),
        [
            "steps[0].criteria (line 4, column 52): Context is not available here: the criteria and labels of a trigger see Event and Vars only"
        ],
        id="trigger criteria",
    ),
    pytest.param(
        flow("id: a, event: {packName: P, packLabels: {e: '{{ Trigger.Name }}'}}"),
        [
            "steps[0].event.packLabels.e (line 4, column 48): Trigger is not available here: the criteria and labels of a trigger see Event and Vars only"
        ],
        id="trigger labels",
    ),
    pytest.param(
        flow(triggered("context: {x: '{{ Steps.a.State }}'}")),
        [
            "steps[0].context.x (line 4, column 55): Steps is not available here: no step has a result before a trigger"
        ],
        id="trigger steps",
    ),
    pytest.param(
        flow(
            RUN,
            "id: b, dependsOn: [a], event: {packName: P, key: '{{ Context.x }}'}, correlate: {event: '{{ Vars.y }}', with: '{{ Context.x }}'}",
            more="vars: {y: 1}\n",
        ),
        [
            "steps[1].event.key (line 6, column 53): Context is not available here: the key of an event sees Event only",
            "steps[1].correlate.event (line 6, column 92): Vars is not available here: the key of an event sees Event only",
        ],
        id="key alone",
    ),
    pytest.param(
        flow(commanded("input: '{{ Item }} {{ Index }} {{ Previous.State }}'")),
        [
            "steps[0].command.input (line 4, column 81): Item is not available here: it is for the command of a step with forEach",
            "steps[0].command.input (line 4, column 81): Index is not available here: it is for the command of a step with forEach or repeat",
            "steps[0].command.input (line 4, column 81): Previous is not available here: it is for the command of a step with repeat",
        ],
        id="item",
    ),
    pytest.param(
        flow(
            triggered(
                "forEach: {in: '{{ Item }}'}, command: {packName: Q, name: C, input: '{{ Previous }}'}"
            )
        ),
        [
            "steps[0].forEach.in (line 4, column 56): Item is not available here: it is for the command of a step with forEach",
            "steps[0].command.input (line 4, column 110): Previous is not available here: it is for the command of a step with repeat",
        ],
        id="previous forEach",
    ),
    pytest.param(
        flow(RUN, more="dedupe: {key: '{{ Trigger.Payload.x }}', within: 1s}\n"),
        [
            "dedupe.key (line 3, column 15): Trigger is not available here: the limits of a flow see Event and Vars only"
        ],
        id="limit names",
    ),
    pytest.param(
        flow(triggered("context: {x: \"{{ secret('k') }}\"}")),
        [
            "steps[0].context.x (line 4, column 55): secret() is for the inputs of packs' commands only"
        ],
        id="secret context",
    ),
    pytest.param(
        flow(of_server("SetData", "{key: a, value: \"{{ secret('k') }}\"}")),
        [
            "steps[0].command.input.value (line 4, column 107): secret() is for the inputs of packs' commands only"
        ],
        id="secret builtin",
    ),
    pytest.param(
        flow(triggered("criteria: '{{ Vars.hots == 1 }}'"), more="vars: {hosts: 1}\n"),
        [
            "steps[0].criteria (line 5, column 52): there is no 'hots' in vars; did you mean 'hosts'?"
        ],
        id="vars unknown",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a], criteria: '{{ Steps.a.payload }}'"),
        [
            "steps[1].criteria (line 5, column 37): the result of a step has no 'payload'; did you mean 'Payload'?"
        ],
        id="steps field",
    ),
    pytest.param(
        flow(RUN, "id: b, dependsOn: [a], criteria: '{{ Execution.ID }}'"),
        ["steps[1].criteria (line 5, column 37): an execution has no 'ID'; did you mean 'Id'?"],
        id="execution field",
    ),
]


@pytest.mark.parametrize(("text", "problems"), SHAPE)
def test_keys_types_and_values_are_matched_exactly(text, problems):
    assert problems_in(text) == problems


@pytest.mark.parametrize(("text", "problems"), ORDER)
def test_steps_refer_to_steps_that_can_make_them_run(text, problems):
    assert problems_in(text) == problems


@pytest.mark.parametrize(("text", "problems"), COMBINATIONS)
def test_keys_that_do_not_go_together_are_refused(text, problems):
    assert problems_in(text) == problems


@pytest.mark.parametrize(("text", "problems"), COMMANDS)
def test_the_commands_of_the_server_are_known(text, problems):
    assert problems_in(text) == problems


@pytest.mark.parametrize(("text", "problems"), TEMPLATES)
def test_templates_see_the_names_of_their_place(text, problems):
    assert problems_in(text) == problems


@pytest.mark.parametrize("file", sorted(DATA.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_valid_flow_is_read(file):
    assert read_definition(parse_yaml(file.read_bytes())).name == file.stem


def test_values_are_read_into_their_fields():
    definition = read_definition(parse_yaml((DATA / "release-train.yaml").read_bytes()))
    steps = {step.id: step for step in definition.steps}
    assert steps["roll-out"].command.retry.on == ("failed", "lost")
    assert steps["roll-out"].for_each.on_failure == "stop"
    assert steps["confirmed"].correlate.look_back == "10m"
    assert steps["undo"].dependency.any == ("roll-out", "confirmed")
    assert definition.concurrency.when_full == "drop"
    assert definition.vars["channel"] == "releases"


def test_the_key_on_is_a_key_in_yaml_and_in_json():
    yaml = flow(commanded("retry: {on: [failed], attempts: 2}"))
    assert read_definition(parse_yaml(yaml.encode())).steps[0].command.retry.on == ("failed",)
    json = (
        b'{"edition": 2, "name": "f", "steps": [{"id": "a", "event": {"packName": "P"},'
        b' "command": {"packName": "Q", "name": "C", "retry": {"on": ["failed"]}}}]}'
    )
    assert read_definition(parse_json(json)).steps[0].command.retry.on == ("failed",)


def test_all_problems_come_at_once_in_the_order_of_the_text():
    text = flow(
        "id: a, event: {packName: P, nme: E}, criteria: '{{ Steps.b.State == 1 }}'",
        "id: b, dependsOn: [x], command: {packName: Q, name: C, onLost: fial}",
        more="timeout: soon\n",
    )
    assert [problem.partition(": ")[0] for problem in problems_in(text)] == [
        "timeout (line 3, column 10)",
        "steps[0].event.nme (line 5, column 37)",
        "steps[0].criteria (line 5, column 51)",
        "steps[1].dependsOn[0] (line 6, column 23)",
        "steps[1].command.onLost (line 6, column 67)",
        "steps[1].command.onLost (line 6, column 67)",
    ]


def test_a_misspelt_key_is_not_reported_as_missing_too():
    (problem,) = problems_in(flow("id: a, evnt: {packName: P}"))
    assert problem.endswith("the key 'evnt' is not known; did you mean 'event'?")
    (problem,) = problems_in(flow(RUN, "id: b, dependson: [a]"))
    assert problem.endswith("the key 'dependson' is not known; did you mean 'dependsOn'?")


def test_durations_counts_and_criteria_may_be_templates_where_they_are_allowed_to():
    text = flow(
        triggered("criteria: '{{ now() > Event.ReceivedAt }}', delay: '2026-03-01T12:30:00Z'"),
        "id: b, dependsOn: [a], timeout: '{{ Vars.long }}', command: {packName: Q, name: C,"
        " expires: '{{ Context.x }}m', failsWhen: false, retry: {on: [failed], when: true}}",
        more="vars: {long: 1h}\ntimeout: '{{ Vars.long }}'\n",
    )
    assert read_definition(parse_yaml(text.encode())).timeout == "{{ Vars.long }}"


def test_a_name_that_a_template_binds_itself_is_known():
    text = flow(commanded("input: '{% for each in Event.Payload %}{{ each.x }}{% endfor %}'"))
    read_definition(parse_yaml(text.encode()))


def test_a_list_of_too_many_items_is_refused():
    items = ",".join(["1"] * 10_001)
    text = flow(triggered(f"forEach: {{in: [{items}]}}, command: {{packName: Q, name: C}}"))
    assert problems_in(text) == [
        "steps[0].forEach.in (line 4, column 56): has 10001 items; 10000 are allowed"
    ]


def test_a_file_full_of_problems_is_left_at_the_maximum():
    text = flow(*[f"id: s{number}, dependsOn: [x{number}]" for number in range(2_000)])
    assert len(problems_in(text)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("mode", "event"), [("any", ""), ("all", ""), ("settled", ""), ("any", ", event: {}")]
)
def test_long_chains_are_read(mode, event):
    steps = [f"id: s{n + 1}, dependsOn: {{{mode}: [s{n}]}}{event}" for n in range(2_000)]
    text = flow("id: s0, event: {packName: P}", *steps)
    assert len(read_definition(parse_yaml(text.encode())).steps) == 2_001


def test_a_gate_hands_on_the_results_before_it():
    steps = [RUN, "id: b, dependsOn: [a]", "id: c, dependsOn: [b], event: {packName: Z}"]
    assert problems_in(flow(*steps)) == [
        "steps[2].event.packName (line 6, column 45): no result of 'b' comes from the pack 'Z'"
    ]
    steps[-1] = steps[-1].replace("Z", "Q")
    read_definition(parse_yaml(flow(*steps).encode()))


@pytest.mark.parametrize(
    ("name", "more"),
    [("TimedOut", ", timeout: 1h"), ("Error", ""), ("Completed", ", forEach: {in: [1]}")],
)
def test_the_server_answers_in_place_of_a_step(name, more):
    text = flow(RUN + more, f"id: b, dependsOn: [a], event: {{packName: Flyte, name: {name}}}")
    read_definition(parse_yaml(text.encode()))


@pytest.mark.parametrize(
    ("edition", "message"),
    [
        ("edition: 3\n", "edition (line 1, column 10): must be 2, not 3"),
        ("edition: '2'\n", "edition (line 1, column 10): must be 2, not text"),
        ("", "(line 1, column 1): 'edition' is missing; write edition: 2"),
    ],
)
def test_flows_of_other_editions_are_refused(edition, message):
    text = flow(RUN).replace("edition: 2\n", edition)
    assert problems_in(text) == [message]


def test_steps_after_one_with_a_fault_are_not_reported_too():
    steps = ["id: b, dependsOn: [x]", "id: c, dependsOn: [b]", "id: d, dependsOn: [e, c]"]
    steps += ["id: e, dependsOn: [d]", "id: g, dependsOn: {all: [d, e]}"]
    assert [problem.partition(" ")[0] for problem in problems_in(flow(RUN, *steps))] == [
        "steps[1].dependsOn[0]",
        "steps[4].dependsOn[0]",
    ]


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        (["id: b, dependsOn: [a, x], event: {packName: Z}"], ["steps[1].dependsOn[1]"]),
        (["id: b, dependsOn: [a], event: {resultOf: x}"], ["steps[1].event.resultOf"]),
        (
            [
                "id: b, dependsOn: [a], event: [{resultOf: c}, {packName: Z}]",
                "id: c, dependsOn: [a]",
            ],
            ["steps[1].event[0].resultOf"],
        ),
        (
            ["id: b, dependsOn: [a, c], event: {packName: Z}", "id: c, dependsOn: [b]"],
            ["steps[2].dependsOn[0]"],
        ),
    ],
)
def test_a_fault_in_the_references_of_a_step_is_its_only_problem(steps, places):
    found = problems_in(flow(RUN, *steps))
    assert [problem.partition(" ")[0] for problem in found] == places


def test_half_of_a_surrogate_pair_is_refused_in_names():
    step = {"id": "a", "event": {"packName": "\ud800"}}
    with pytest.raises(InputError) as caught:
        read_definition(Document({"edition": 2, "name": "f", "steps": [step]}))
    assert [str(problem) for problem in caught.value.problems] == [
        "steps[0].event.packName: must not contain half of a surrogate pair"
    ]


@pytest.mark.parametrize(
    "schema", ["true", "{}", "{$ref: '#/$defs/a', $defs: {a: {type: [string, 'null']}}}"]
)
def test_inputs_may_be_any_json_schema(schema):
    text = flow("id: a, event: {packName: Flyte, name: Called}", more=f"inputs: {schema}\n")
    read_definition(parse_yaml(text.encode()))


def test_a_long_circle_is_abridged():
    steps = "".join(f"- {{id: s{i}, dependsOn: [s{(i + 1) % 3000}]}}\n" for i in range(3000))
    [problem] = problems_in(f"edition: 2\nname: f\nsteps:\n{steps}")
    assert problem.endswith(
        "in a circle: s0 -> s1 -> s2 -> s3 -> s4 -> (2991 more) -> s2996 -> s2997 -> s2998 -> s2999"
        " -> s0"
    )


@pytest.mark.parametrize("first", ["1", "null"])
def test_the_edition_counts_under_every_spelling_of_its_key(first):
    text = f"edition: {first}\nEdition: 2\nname: f\n"
    assert edition_of(parse_yaml(text.encode())) == 2
