"""The fields of flow files of edition 2: the form of their values, and their descriptions.

A field is named by its type and its key in files. A test holds the table to the types.
"""

from collections.abc import Mapping
from datetime import timedelta

from flyteops.definition import (
    MAX_ITEMS,
    Batch,
    CommandDefinition,
    Concurrency,
    Correlation,
    Debounce,
    Dedupe,
    Dependency,
    FlowDefinition,
    ForEach,
    RateLimit,
    Repeat,
    Retry,
    StepDefinition,
    Threshold,
    TriggerPattern,
)
from flyteops.flow.edition2.form import (
    AtLeastOneForm,
    ChoiceForm,
    ConditionForm,
    CountForm,
    CronForm,
    DurationForm,
    Form,
    IdentifierForm,
    ItemsForm,
    LabelsForm,
    LabelTemplatesForm,
    NameForm,
    SchemaForm,
    TimeZoneForm,
)
from flyteops.flow.policy import MAX_ATTEMPTS, MIN_TIMEOUT
from flyteops.flow.schedule import CATCH_UP
from flyteops.model import Schedule

MAX_STARTS = 1_000_000
"""The maximum of `rateLimit` and `concurrency`."""

MAX_LOOK_BACK = timedelta(hours=1)

_SOME_TIME = DurationForm(timedelta(milliseconds=1))
_IDS = AtLeastOneForm("id of a step")
_CONDITION = ConditionForm()

Field = tuple[type, str]
"""A type, and the key of one of its fields in files."""

FORMS: Mapping[Field, Form] = {
    (FlowDefinition, "name"): NameForm(),
    (FlowDefinition, "labels"): LabelsForm(),
    (FlowDefinition, "timeout"): _SOME_TIME,
    (FlowDefinition, "inputs"): SchemaForm(),
    (FlowDefinition, "steps"): AtLeastOneForm("step"),
    (Dedupe, "within"): _SOME_TIME,
    (Debounce, "for"): _SOME_TIME,
    (Debounce, "maxWait"): _SOME_TIME,
    (Batch, "within"): _SOME_TIME,
    (Batch, "max"): CountForm(1, MAX_ITEMS),
    (Threshold, "count"): CountForm(1, MAX_ITEMS),
    (Threshold, "within"): _SOME_TIME,
    (RateLimit, "max"): CountForm(1, MAX_STARTS),
    (RateLimit, "per"): _SOME_TIME,
    (Concurrency, "max"): CountForm(1, MAX_STARTS),
    (StepDefinition, "id"): IdentifierForm(),
    (StepDefinition, "dependsOn"): _IDS,
    (StepDefinition, "event"): AtLeastOneForm("pattern"),
    (StepDefinition, "criteria"): ConditionForm(may_be_constant=False),
    (StepDefinition, "delay"): DurationForm(may_be_time=True),
    (StepDefinition, "timeout"): _SOME_TIME,
    (Dependency, "any"): _IDS,
    (Dependency, "all"): _IDS,
    (Dependency, "settled"): _IDS,
    (TriggerPattern, "name"): NameForm(),
    (TriggerPattern, "packName"): NameForm(),
    (TriggerPattern, "packLabels"): LabelTemplatesForm(),
    (Schedule, "cron"): CronForm(),
    (Schedule, "timeZone"): TimeZoneForm(),
    (Schedule, "catchUp"): ChoiceForm(CATCH_UP),
    (Correlation, "lookBack"): DurationForm(timedelta(milliseconds=1), MAX_LOOK_BACK),
    (ForEach, "in"): ItemsForm(MAX_ITEMS),
    (ForEach, "parallel"): CountForm(1, MAX_ITEMS),
    (Repeat, "while"): _CONDITION,
    (Repeat, "max"): CountForm(1, MAX_ITEMS),
    (Repeat, "delay"): DurationForm(),
    (CommandDefinition, "name"): NameForm(),
    (CommandDefinition, "packName"): NameForm(),
    (CommandDefinition, "packLabels"): LabelTemplatesForm(),
    (CommandDefinition, "timeout"): DurationForm(MIN_TIMEOUT),
    (CommandDefinition, "failsWhen"): _CONDITION,
    (CommandDefinition, "expires"): _SOME_TIME,
    (Retry, "attempts"): CountForm(1, MAX_ATTEMPTS),
    (Retry, "backoff"): DurationForm(),
    (Retry, "maxBackoff"): DurationForm(),
    (Retry, "on"): AtLeastOneForm("of failed and lost"),
    (Retry, "when"): _CONDITION,
}
"""The forms of the fields whose type does not say everything."""

RESERVED = ("tests", "mode")
"""The keys of a flow that a later version will know."""

DESCRIPTIONS: Mapping[type, Mapping[str, str]] = {
    FlowDefinition: {
        "edition": "The edition of the flow language.",
        "name": "The name of the flow; saving one of the same name replaces it.",
        "description": "A description for people.",
        "labels": "Texts by key for lists, roles and policies.",
        "enabled": "Whether the flow starts executions; running ones go on.",
        "timeout": "The duration after which an execution ends as FAILED.",
        "vars": "Constants that templates read as Vars.x; they may use datastore().",
        "inputs": "A JSON Schema for the payload of Called.",
        "dedupe": "Drop an event whose key has passed within a duration.",
        "debounce": "Act on the last event when none has come for a duration.",
        "batch": "Act once on all events within a duration.",
        "threshold": "Act once when enough events have come within a duration.",
        "rateLimit": "Drop the starts beyond a number per period.",
        "concurrency": "Bound the executions that run at the same time.",
        "steps": "The steps of the flow.",
    },
    StepDefinition: {
        "id": 'The name of the step for other steps; with a hyphen, Steps["roll-back"].',
        "dependsOn": "The steps that come first; a list means any of them.",
        "event": "The pattern of the event, or a list of patterns of which one must match.",
        "schedule": "The times at which the step begins an execution, instead of an event.",
        "correlate": "Wait for an event from outside whose key equals that of this execution.",
        "criteria": "A template that gives true or false: whether the step runs.",
        "context": "Values for this command and for later steps, rendered after the criteria.",
        "delay": "A duration or a time: the wait before the command may be taken.",
        "timeout": "The length of a wait, or the time from the start of a step to its result.",
        "forEach": "One action for each item of a list.",
        "repeat": "The command again, while a template is true of the last result.",
        "command": "The command; without one, the step is a gate.",
    },
    TriggerPattern: {
        "name": "The name of the event.",
        "packName": "The pack that sends the event.",
        "packLabels": "The labels that the pack must have; templates.",
        "resultOf": "The step whose result the event must be.",
        "state": "The state that the result must have.",
        "key": "The template of the correlation key, for events of this pattern.",
    },
    Dependency: {
        "any": "One of these steps.",
        "all": "All of these steps, in any order.",
        "settled": "Each of these steps has a result or can no longer run.",
    },
    Correlation: {
        "with": "The template of the key of this wait.",
        "event": "The template of the key of an event; it sees Event only.",
        "lookBack": "How long before the wait an event may have come; at most 1h.",
    },
    ForEach: {
        "in": "The list of items, or a template that gives it.",
        "parallel": "The maximum number of open actions.",
        "onFailure": "Whether the remaining items follow after a failure.",
    },
    Repeat: {
        "while": "A template about the last result: whether another round follows.",
        "max": "The maximum number of rounds.",
        "delay": "The time between two rounds.",
    },
    Retry: {
        "attempts": "The maximum number of attempts, including the first.",
        "backoff": "The wait before the second attempt; it doubles each time.",
        "maxBackoff": "The maximum wait between attempts.",
        "on": "The results that are retried; lost needs a timeout of the command.",
        "when": "A template with the result as Event: whether it is retried.",
    },
    CommandDefinition: {
        "name": "The name of the command.",
        "packName": "The pack that the command is for; Flyte is the server itself.",
        "packLabels": "The labels that the pack must have; templates.",
        "input": "The input; every text in it is a template.",
        "timeout": "How long a pack may be silent before the command counts as lost.",
        "onLost": "The end of a lost command without further attempts.",
        "retry": "The results that are retried, and how often.",
        "failsWhen": "A template with the result as Event: whether it is a failure.",
        "expires": "How long the command may wait for a pack to take it.",
    },
    Schedule: {
        "cron": "Minute, hour, day, month, weekday; or a name such as @daily.",
        "timeZone": "A time zone such as Europe/Berlin; UTC if left out.",
        "catchUp": "The treatment of times that passed while no server ran.",
    },
    Dedupe: {"key": "The template of the key.", "within": "The time that a key is remembered."},
    Debounce: {
        "for": "The silence after which the last event counts.",
        "key": "The template of the key.",
        "maxWait": "The maximum wait after the first event.",
    },
    Batch: {
        "within": "The time after the first event.",
        "key": "The template of the key.",
        "max": "The number of events that ends the batch early.",
    },
    Threshold: {
        "count": "The number of events.",
        "within": "The time within which they must come.",
        "key": "The template of the key.",
    },
    RateLimit: {
        "max": "The maximum number of starts in a period.",
        "per": "The length of the period.",
        "key": "The template of the key.",
    },
    Concurrency: {
        "key": "The template of the key.",
        "max": "The maximum number of running executions.",
        "whenFull": "The treatment of a start beyond the maximum.",
    },
}
"""The descriptions of all fields, for editors."""
