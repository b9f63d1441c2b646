"""Layouts of times as in strftime, in English and independent of the machine's locale."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from types import MappingProxyType

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTHANDS = MappingProxyType(
    {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y", "h": "%b"}
)
_DIRECTIVE = re.compile(r"%(:z|-?[A-Za-z%]|.?)", re.DOTALL)


class LayoutError(Exception):
    """A layout with an unknown directive, or a text that does not fit it."""


def _offset(at: datetime, separator: str) -> str:
    seconds = int((at.utcoffset() or timedelta()).total_seconds())
    minutes = abs(seconds) // 60
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{minutes // 60:02d}{separator}{minutes % 60:02d}"


def unix_seconds(at: datetime) -> int:
    """Return the whole seconds since 1970."""
    return (at - EPOCH) // timedelta(seconds=1)


_PRINTED: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {
        "Y": lambda at: f"{at.year:04d}",
        "C": lambda at: f"{at.year // 100:02d}",
        "y": lambda at: f"{at.year % 100:02d}",
        "m": lambda at: f"{at.month:02d}",
        "d": lambda at: f"{at.day:02d}",
        "e": lambda at: f"{at.day:2d}",
        "H": lambda at: f"{at.hour:02d}",
        "k": lambda at: f"{at.hour:2d}",
        "I": lambda at: f"{at.hour % 12 or 12:02d}",
        "l": lambda at: f"{at.hour % 12 or 12:2d}",
        "M": lambda at: f"{at.minute:02d}",
        "S": lambda at: f"{at.second:02d}",
        "f": lambda at: f"{at.microsecond:06d}",
        "p": lambda at: "AM" if at.hour < 12 else "PM",
        "P": lambda at: "am" if at.hour < 12 else "pm",
        "B": lambda at: MONTHS[at.month - 1],
        "b": lambda at: MONTHS[at.month - 1][:3],
        "A": lambda at: DAYS[at.weekday()],
        "a": lambda at: DAYS[at.weekday()][:3],
        "j": lambda at: f"{at.timetuple().tm_yday:03d}",
        "u": lambda at: str(at.isoweekday()),
        "w": lambda at: str(at.isoweekday() % 7),
        "G": lambda at: f"{at.isocalendar().year:04d}",
        "V": lambda at: f"{at.isocalendar().week:02d}",
        "z": lambda at: _offset(at, ""),
        ":z": lambda at: _offset(at, ":"),
        "Z": lambda at: at.tzname() or "UTC",
        "s": lambda at: str(unix_seconds(at)),
        "n": lambda _: "\n",
        "t": lambda _: "\t",
        "%": lambda _: "%",
    }
)


def print_time(at: datetime, layout: str) -> str:
    """Print a time in a layout that `check_printing` accepts."""

    def part(found: re.Match[str]) -> str:
        code = found[1]
        if code in _SHORTHANDS:
            return print_time(at, _SHORTHANDS[code])
        bare = code.removeprefix("-")
        printed = _PRINTED[bare](at)
        return printed if bare == code else printed.lstrip("0 ") or "0"

    return _DIRECTIVE.sub(part, layout)


def check_printing(layout: str) -> None:
    """Raise `LayoutError` for a layout with unknown directives."""
    _check(layout, _PRINTED)


def check_reading(layout: str) -> None:
    """Raise `LayoutError` for a layout with unknown directives, or without a year."""
    if _check(layout, _READ).isdisjoint("YyFDs"):
        raise LayoutError("a layout without a year (%Y) or Unix seconds (%s)")


def _check(layout: str, known: Mapping[str, object]) -> set[str]:
    codes = {found[1].removeprefix("-") for found in _DIRECTIVE.finditer(layout)}
    for code in sorted(codes):
        if code not in known and code not in _SHORTHANDS:
            raise _unknown(code, known)
    return codes


def _unknown(code: str, known: Mapping[str, object]) -> LayoutError:
    codes = " ".join(f"%{each}" for each in [*known, *_SHORTHANDS])
    return LayoutError(f"the unknown directive {'%' + code!r} (known are {codes})")


def _name(names: tuple[str, ...]) -> str:
    return "|".join(f"{name}|{name[:3]}" for name in names)


_READ: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        code: re.compile(pattern, re.ASCII | re.IGNORECASE)
        for code, pattern in {
            "Y": r"\d{4}",
            "y": r"\d\d",
            "m": r"\d\d?",
            "d": r"\d\d?",
            "e": r"\d\d?",
            "j": r"\d{1,3}",
            "H": r"\d\d?",
            "I": r"\d\d?",
            "M": r"\d\d?",
            "S": r"\d\d?",
            "f": r"\d{1,9}",
            "p": "AM|PM",
            "B": _name(MONTHS),
            "b": _name(MONTHS),
            "A": _name(DAYS),
            "a": _name(DAYS),
            "z": r"Z|[+-]\d\d:?\d\d",
            ":z": r"Z|[+-]\d\d:?\d\d",
            "Z": "UTC|GMT|Z",
            "s": r"-?\d{1,12}",
            "%": "%",
        }.items()
    }
)
_SAME = MappingProxyType({"e": "d", "B": "b", "A": "a", ":z": "z"})
_BLANKS = re.compile(r"\s*")


def read_time(string: str, layout: str, zone: tzinfo) -> datetime:
    """Read a time in a layout that `check_reading` accepts; raise `LayoutError` for other texts.

    The zone is the one of texts without an offset. A missing month or day is the first, a missing
    hour, minute or second 0.
    """
    fields = _Scanner(string).run(layout)
    if "s" in fields:
        return (EPOCH + timedelta(seconds=int(fields["s"]))).astimezone(zone)
    try:
        return _built(fields, zone)
    except ValueError as error:
        raise LayoutError(f"a date that does not exist: {error}") from None


class _Scanner:
    """Reads a text from left to right, one directive after the other."""

    def __init__(self, string: str) -> None:
        self.string = string
        self.position = 0
        self.fields: dict[str, str] = {}

    def run(self, layout: str) -> dict[str, str]:
        """Return the text of each directive."""
        end = 0
        for found in _DIRECTIVE.finditer(_expanded(layout)):
            self._literal(found.string[end : found.start()])
            self._directive(found[1].removeprefix("-"))
            end = found.end()
        self._literal(_expanded(layout)[end:])
        if self.position < len(self.string):
            raise LayoutError(f"{self.string[self.position :][:40]!r} after the end of the layout")
        return self.fields

    def _literal(self, literal: str) -> None:
        for word in re.split(r"(\s+)", literal):
            if word.isspace():
                self._take(_BLANKS, "white space")
            elif not self.string.startswith(word, self.position):
                raise self._misfit(repr(word))
            else:
                self.position += len(word)

    def _directive(self, code: str) -> None:
        if code == "e":
            self._take(_BLANKS, "white space")
        self.fields[_SAME.get(code, code)] = self._take(_READ[code], f"%{code}")

    def _take(self, pattern: re.Pattern[str], needed: str) -> str:
        found = pattern.match(self.string, self.position)
        if found is None:
            raise self._misfit(needed)
        self.position = found.end()
        return found[0]

    def _misfit(self, needed: str) -> LayoutError:
        return LayoutError(f"{self.string[self.position :][:40]!r} instead of {needed}")


def _expanded(layout: str) -> str:
    return re.sub("%(%|[FTRDh])", lambda found: _SHORTHANDS.get(found[1], found[0]), layout)


def _built(fields: Mapping[str, str], zone: tzinfo) -> datetime:
    offset = _zone_of(fields)
    day = datetime(
        _year(fields),
        _month(fields),
        int(fields.get("d", 1)),
        _hour(fields),
        int(fields.get("M", 0)),
        int(fields.get("S", 0)),
        int(fields.get("f", "0").ljust(6, "0")[:6]),
        tzinfo=offset or zone,
    )
    if "j" not in fields:
        return day
    moved = day.replace(month=1, day=1) + timedelta(days=int(fields["j"]) - 1)
    if moved.year != day.year:
        raise LayoutError(f"the day {fields['j']} of a year")
    return moved


def _year(fields: Mapping[str, str]) -> int:
    if "Y" in fields:
        return int(fields["Y"])
    year = int(fields["y"])
    return year + (1900 if year > 68 else 2000)


def _month(fields: Mapping[str, str]) -> int:
    if "b" not in fields:
        return int(fields.get("m", 1))
    short = fields["b"][:3].title()
    return next(number for number, name in enumerate(MONTHS, 1) if name.startswith(short))


def _hour(fields: Mapping[str, str]) -> int:
    if "I" not in fields:
        return int(fields.get("H", 0))
    hour = int(fields["I"])
    if not 1 <= hour <= 12:
        raise LayoutError(f"the hour {hour} of 12")
    return hour % 12 + 12 * (fields.get("p", "am").lower() == "pm")


def _zone_of(fields: Mapping[str, str]) -> tzinfo | None:
    text = fields.get("z")
    if text is None:
        return UTC if "Z" in fields else None
    return UTC if text in "Zz" else offset_zone(text)


def offset_zone(text: str) -> tzinfo:
    """Return the zone of an offset such as ``+02:00`` or ``+0200``."""
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise LayoutError(f"the offset {text}")
    size = timedelta(hours=hours, minutes=minutes)
    if not size:
        return UTC
    return timezone(-size if text[0] == "-" else size)
