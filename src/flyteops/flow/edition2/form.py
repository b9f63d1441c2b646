"""The forms of values beyond their types: durations, counts, ids, names, conditions.

Each form finds the faults of a value, and describes itself as JSON Schema.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from flyteops import name as naming
from flyteops.document import Path
from flyteops.errors import InputError
from flyteops.flow.edition2.jsonschema import schema_faults
from flyteops.flow.nearest import suggestion
from flyteops.flow.schedule import check_cron, get_time_zone
from flyteops.model import JsonValue
from flyteops.timeformat import (
    MAX_DURATION,
    format_duration,
    parse_duration,
    parse_timestamp,
)

Fault = tuple[Path, str]
"""The place of a fault within a value, and its description."""

ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
MARKS = ("{{", "{%", "{#")
MARK_PATTERN = r"\{[{%#]"
DURATION_PATTERN = r"^([0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d))+$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T"
SHOWN = 40


def is_template(text: str) -> bool:
    """Return whether a text has an expression or a tag."""
    return any(mark in text for mark in MARKS)


class Form(Protocol):
    """The form of a value; `noun` names it in the message about a value of a wrong type."""

    @property
    def noun(self) -> str | None: ...

    def faults(self, value: Any) -> Iterator[Fault]: ...  # noqa: ANN401 - of the field's type

    def schema(self) -> dict[str, JsonValue]: ...


class DurationForm(NamedTuple):
    """A duration such as ``30s``, or a template."""

    least: timedelta = timedelta(0)
    most: timedelta = MAX_DURATION
    may_be_time: bool = False

    @property
    def noun(self) -> str:
        return "a duration such as 30s" + (" or a time" if self.may_be_time else "")

    def faults(self, value: str) -> Iterator[Fault]:
        if is_template(value) or (self.may_be_time and _is_time(value)):
            return
        try:
            duration = parse_duration(value)
        except ValueError as error:
            more = ", or a time as 2026-03-01T12:30:00Z" if self.may_be_time else ""
            yield (), f"{error}{more}"
            return
        if duration < self.least:
            yield (), f"must be at least {format_duration(self.least)}"
        elif duration > self.most:
            yield (), f"must be at most {format_duration(self.most)}"

    def schema(self) -> dict[str, JsonValue]:
        patterns = [DURATION_PATTERN, *([TIME_PATTERN] if self.may_be_time else []), MARK_PATTERN]
        return {"pattern": "|".join(patterns)}


def _is_time(text: str) -> bool:
    try:
        return parse_timestamp(text, "") is not None
    except InputError:
        return False


class CountForm(NamedTuple):
    """A whole number in a range."""

    least: int
    most: int

    @property
    def noun(self) -> str:
        return "a whole number"

    def faults(self, value: int) -> Iterator[Fault]:
        if not self.least <= value <= self.most:
            yield (), f"must be from {self.least} to {self.most}"

    def schema(self) -> dict[str, JsonValue]:
        return {"minimum": self.least, "maximum": self.most}


class IdentifierForm(NamedTuple):
    """The id of a step."""

    noun: str | None = None

    def faults(self, value: str) -> Iterator[Fault]:
        if not ID.fullmatch(value):
            yield (
                (),
                f"{value[:SHOWN]!r} cannot be an id: letters, digits, '_' and '-' are allowed, and"
                " it begins with a letter or '_'",
            )
        elif fault := naming.fault_of(value):
            yield (), fault

    def schema(self) -> dict[str, JsonValue]:
        return {"pattern": f"^{ID.pattern}$"}


class NameForm(NamedTuple):
    """A name, which is not rendered."""

    noun: str | None = None

    def faults(self, value: str) -> Iterator[Fault]:
        if not value.strip():
            yield (), "must not be empty"
        elif is_template(value):
            yield (), "is not rendered; write the name itself instead of a template"
        elif fault := naming.fault_of(value):
            yield (), fault

    def schema(self) -> dict[str, JsonValue]:
        return {"pattern": r"\S", "not": {"pattern": MARK_PATTERN}}


class ConditionForm(NamedTuple):
    """A template that gives true or false; or the value itself where it `may_be_constant`."""

    may_be_constant: bool = True

    @property
    def noun(self) -> str:
        return "a template in {{ }}" + (", true or false" if self.may_be_constant else "")

    def faults(self, value: str | bool) -> Iterator[Fault]:
        if isinstance(value, bool):
            if not self.may_be_constant:
                advice = "leave the key out" if value else "leave the step out"
                yield (), f"is constant; write a template in {{{{ }}}}, or {advice}"
        elif not is_template(value):
            yield (), "is constant text; put the expression in braces: {{ ... }}"

    def schema(self) -> dict[str, JsonValue]:
        text: dict[str, JsonValue] = {"type": "string", "pattern": MARK_PATTERN}
        return {"anyOf": [text, {"type": "boolean"}]} if self.may_be_constant else text


class ItemsForm(NamedTuple):
    """A list, or a template that gives one."""

    most: int

    @property
    def noun(self) -> str:
        return "a list, or a template that gives one"

    def faults(self, value: JsonValue) -> Iterator[Fault]:
        if isinstance(value, list):
            if len(value) > self.most:
                yield (), f"has {len(value)} items; {self.most} are allowed"
        elif not isinstance(value, str) or not is_template(value):
            yield (), f"must be {self.noun}: {{{{ ... }}}}"

    def schema(self) -> dict[str, JsonValue]:
        return {
            "anyOf": [
                {"type": "array", "maxItems": self.most},
                {"type": "string", "pattern": MARK_PATTERN},
            ]
        }


class AtLeastOneForm(NamedTuple):
    """A list that is not empty; `noun` is not for messages about the type."""

    element: str
    noun: str | None = None

    def faults(self, value: list[JsonValue]) -> Iterator[Fault]:
        if not value:
            yield (), f"must hold at least one {self.element}"

    def schema(self) -> dict[str, JsonValue]:
        return {"minItems": 1}


class CronForm(NamedTuple):
    """A cron expression."""

    noun: str | None = None

    def faults(self, value: str) -> Iterator[Fault]:
        try:
            check_cron(value)
        except ValueError as error:
            yield (), str(error)

    def schema(self) -> dict[str, JsonValue]:
        return {}


class TimeZoneForm(NamedTuple):
    """The name of a time zone."""

    noun: str | None = None

    def faults(self, value: str) -> Iterator[Fault]:
        try:
            get_time_zone(value)
        except ValueError as error:
            yield (), str(error)

    def schema(self) -> dict[str, JsonValue]:
        return {}


class ChoiceForm(NamedTuple):
    """One of several words."""

    words: tuple[str, ...]
    noun: str | None = None

    def faults(self, value: str) -> Iterator[Fault]:
        if value not in self.words:
            yield (), not_one_of(value, self.words)

    def schema(self) -> dict[str, JsonValue]:
        return {"enum": list(self.words)}


class LabelsForm(NamedTuple):
    """Texts by key, which are not rendered."""

    noun: str | None = None

    def faults(self, value: dict[str, str]) -> Iterator[Fault]:
        for key, fault in naming.faults_of_labels(value):
            yield ((key,) if key else ()), fault

    def schema(self) -> dict[str, JsonValue]:
        return {}


class LabelTemplatesForm(NamedTuple):
    """Templates by label."""

    noun: str | None = None

    def faults(self, value: dict[str, str]) -> Iterator[Fault]:
        for key in value:
            if fault := naming.fault_of(key):
                yield (key,), fault

    def schema(self) -> dict[str, JsonValue]:
        return {}


class SchemaForm(NamedTuple):
    """A JSON Schema."""

    noun: str | None = None

    def faults(self, value: JsonValue) -> Iterator[Fault]:
        yield from schema_faults(value)

    def schema(self) -> dict[str, JsonValue]:
        return {"$ref": "https://json-schema.org/draft/2020-12/schema"}


def not_one_of(value: str, words: tuple[str, ...]) -> str:
    """Return the message about a word that is none of the valid ones."""
    listed = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return f"must be {listed}, not {value[:SHOWN]!r}{suggestion(value, words)}"
