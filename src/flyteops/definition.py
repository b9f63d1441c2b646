"""The definition of a flow of edition 2, as its author wrote it.

Values without behaviour, like those of `model`. Field names become camelCase in files. A duration
is text such as ``30s``, and may be a template; a text in a `JsonValue` is a template as well.
"""

from datetime import timedelta
from typing import Literal

import msgspec

from flyteops.model import JsonValue, Schedule

EDITION: Literal[2] = 2

StepState = Literal["SUCCEEDED", "FAILED"]
"""The state of a step with a result."""

MAX_ITEMS = 10_000
"""The maximum number of items of `forEach`, and of executions in a queue of `concurrency`."""

MAX_LOOK_BACK = timedelta(hours=1)
"""The longest `lookBack` of a wait."""


class TriggerPattern(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A pattern that an event must match; without a `name`, any event of the pack.

    With `result_of` or `state`, only results of that step, or with that state, match. `key` is the
    correlation key of the events of this pattern.
    """

    name: str | None = None
    pack_name: str | None = None
    pack_labels: dict[str, str] | None = None
    result_of: str | None = None
    state: StepState | None = None
    key: str | None = None


class Dependency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The steps that a step depends on; exactly one of the three is given."""

    any: tuple[str, ...] | None = None
    all: tuple[str, ...] | None = None
    settled: tuple[str, ...] | None = None


class Correlation(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The correlation of a wait: it ends with an event whose key equals its own.

    `event` is the template of the event's key, `with_` that of the wait's.
    """

    with_: str = msgspec.field(name="with")
    event: str | None = None
    look_back: str | None = None


class ForEach(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One action for each item of a list, `parallel` of them at a time."""

    in_: JsonValue = msgspec.field(name="in")
    parallel: int = 10
    on_failure: Literal["continue", "stop"] = "continue"


class Repeat(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The command again, while a template is true of the last result, `max` times in all."""

    while_: str | bool = msgspec.field(name="while")
    max: int = 100
    delay: str | None = None


class Retry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The retry policy of a command: the maximum of attempts, and the results that it retries."""

    attempts: int = 3
    backoff: str = "10s"
    max_backoff: str = "10m"
    on: tuple[Literal["failed", "lost"], ...] = ("lost",)
    when: str | bool = True


class CommandDefinition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The command of a step, the pack that it is for, and the rules about its result."""

    name: str
    pack_name: str
    pack_labels: dict[str, str] | None = None
    input: JsonValue = None
    timeout: str | None = None
    on_lost: Literal["retry", "fail", "ask"] | None = None
    retry: Retry | None = None
    fails_when: str | bool | None = None
    expires: str | None = None


class StepDefinition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A step of a flow of edition 2; `event` and `depends_on` are as they were written."""

    id: str
    depends_on: tuple[str, ...] | Dependency | None = None
    event: TriggerPattern | tuple[TriggerPattern, ...] | None = None
    schedule: Schedule | None = None
    correlate: Correlation | None = None
    criteria: str | bool | None = None
    context: dict[str, JsonValue] | None = None
    delay: str | None = None
    timeout: str | None = None
    for_each: ForEach | None = None
    repeat: Repeat | None = None
    command: CommandDefinition | None = None

    @property
    def patterns(self) -> tuple[TriggerPattern, ...]:
        """The patterns of which one must match; empty without `event`."""
        if self.event is None:
            return ()
        return (self.event,) if isinstance(self.event, TriggerPattern) else self.event

    @property
    def dependency(self) -> Dependency | None:
        """The steps that it depends on, also those that only `result_of` names; None for a trigger.

        Without `depends_on`, any of those named in `result_of`.
        """
        if isinstance(self.depends_on, Dependency):
            return self.depends_on
        if self.depends_on is not None:
            return Dependency(any=self.depends_on)
        named = tuple(
            dict.fromkeys(each.result_of for each in self.patterns if each.result_of is not None)
        )
        return Dependency(any=named) if named else None

    @property
    def is_trigger(self) -> bool:
        """Whether it begins executions: it depends on no step."""
        return self.dependency is None


class Dedupe(msgspec.Struct, frozen=True):
    """Drops an event whose key has passed within a duration."""

    key: str
    within: str


class Debounce(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Acts on the last event when none has come for a duration, or after `max_wait`."""

    for_: str = msgspec.field(name="for")
    key: str | None = None
    max_wait: str | None = None


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Acts once on all events, `within` after the first or when there are `max`."""

    within: str
    key: str | None = None
    max: int = 100


class Threshold(msgspec.Struct, frozen=True, omit_defaults=True):
    """Acts once when `count` events have come within a duration, then counts anew."""

    count: int
    within: str
    key: str | None = None


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Drops the starts beyond `max` in any such period."""

    max: int
    per: str
    key: str | None = None


class Concurrency(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Bounds the executions that run at the same time."""

    key: str | None = None
    max: int = 1
    when_full: Literal["queue", "drop", "cancelOldest"] = "queue"


class FlowDefinition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A flow of edition 2. `vars` may read the datastore; `inputs` is a JSON Schema."""

    edition: Literal[2] = EDITION
    name: str
    description: str = ""
    labels: dict[str, str] = {}
    enabled: bool = True
    timeout: str | None = None
    vars: dict[str, JsonValue] = {}
    inputs: JsonValue = None
    dedupe: Dedupe | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    threshold: Threshold | None = None
    rate_limit: RateLimit | None = None
    concurrency: Concurrency | None = None
    steps: tuple[StepDefinition, ...]
