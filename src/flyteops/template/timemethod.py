"""The methods of Go's time.Time that a template may call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.gotime import Time
from flyteops.template.state import RenderState
from flyteops.template.value import Function


@dataclass(frozen=True, slots=True)
class Method:
    """One method: the Go types of its parameters and its implementation."""

    name: str
    parameters: tuple[str, ...]
    call: Callable[..., Any]

    def bind(self, time: Time) -> Function:
        """Return the method of one instant as a function."""
        return Function(
            self.name, self.parameters, lambda state, arguments: self._call(time, state, arguments)
        )

    def _call(self, time: Time, state: RenderState, arguments: list[Any]) -> object:
        state.charge(sum(len(argument) for argument in arguments if isinstance(argument, str)))
        try:
            return self.call(time, *arguments)
        except (OverflowError, ValueError) as error:
            raise TemplateAbort(
                f"{self.name} leads to a time before year 1 or after year 9999"
            ) from error


def _utc(time: Time) -> Time:
    return replace(time, at=time.at.astimezone(UTC))


def _add_date(time: Time, years: int, months: int, days: int) -> Time:
    month = time.at.month - 1 + months
    try:
        first = time.at.replace(
            year=time.at.year + years + month // 12, month=month % 12 + 1, day=1
        )
        return replace(time, at=first + timedelta(days=time.at.day - 1 + days))
    except (ValueError, OverflowError):
        raise TemplateRenderError("AddDate leaves the years 1 to 9999") from None


def _instant(time: Time) -> tuple[datetime, int]:
    return time.at, time.nanosecond


def _sub(time: Time, other: Time) -> int:
    # Go's Duration is limited to 292 years in either direction.
    return max(-(2**63), min(time.unix_nanoseconds - other.unix_nanoseconds, 2**63 - 1))


def _several(name: str, instead: str) -> Method:
    def refuse(_time: Time) -> NoReturn:
        raise TemplateRenderError(
            f"{name} has several results, which a template cannot hold; use {instead}"
        )

    return Method(name, (), refuse)


_METHODS = (
    Method("Year", (), lambda time: time.at.year),
    Method("Month", (), lambda time: time.at.month),
    Method("Day", (), lambda time: time.at.day),
    Method("Hour", (), lambda time: time.at.hour),
    Method("Minute", (), lambda time: time.at.minute),
    Method("Second", (), lambda time: time.at.second),
    Method("Nanosecond", (), lambda time: time.at.microsecond * 1000 + time.nanosecond),
    Method("Weekday", (), lambda time: time.weekday),
    Method("YearDay", (), lambda time: time.at.timetuple().tm_yday),
    Method("Unix", (), lambda time: time.unix_nanoseconds // 1_000_000_000),
    Method("UnixMilli", (), lambda time: time.unix_nanoseconds // 1_000_000),
    Method("UnixNano", (), lambda time: time.unix_nanoseconds),
    Method("IsZero", (), lambda time: _instant(time) == (datetime(1, 1, 1, tzinfo=UTC), 0)),
    Method("String", (), str),
    Method("UTC", (), _utc),
    Method("Format", ("string",), lambda time, layout: time.format(layout)),
    Method("AddDate", ("int", "int", "int"), _add_date),
    Method("After", ("time.Time",), lambda time, other: _instant(time) > _instant(other)),
    Method("Before", ("time.Time",), lambda time, other: _instant(time) < _instant(other)),
    Method("Sub", ("time.Time",), _sub),
    Method("Location", (), lambda time: "UTC" if time.zone == "UTC" else ""),
    _several("Date", "Year, Month and Day"),
    _several("Clock", "Hour, Minute and Second"),
    _several("ISOWeek", "YearDay"),
    _several("Zone", 'Format("MST")'),
    Method("Equal", ("time.Time",), lambda time, other: _instant(time) == _instant(other)),
)
METHODS = {method.name: method for method in _METHODS}
