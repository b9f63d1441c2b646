"""Instants, printed with the layouts of Go's time package."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_MONTHS = [
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
]
_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_LAYOUT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|0[1-6]|15|1|2006|2|__2|_(?=2006)|_2|3|4|5|"
    r"PM|pm"
    r"|[-Z]07:00:00|[-Z]070000|[-Z]07:00|[-Z]0700|[-Z]07|[.,](?:0+|9+)(?![0-9])"
)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(?:(Z)|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Time:
    """An instant in a time zone.

    `nanosecond` is the part below the microseconds of a `datetime`, 0 to 999.
    """

    at: datetime
    nanosecond: int = 0

    @classmethod
    def parse(cls, text: str) -> "Time":
        """Read a time in the form of RFC 3339, or raise ValueError."""
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise ValueError(text)
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        fraction = (match[7] or "").ljust(9, "0")
        zone = _zone(match[9], int(match[10] or 0), int(match[11] or 0))
        at = datetime(year, month, day, hour, minute, second, int(fraction[:6]), tzinfo=zone)
        return cls(at, int(fraction[6:9]))

    def __str__(self) -> str:
        return self.format("2006-01-02 15:04:05.999999999 -0700 MST")

    def format(self, layout: str) -> str:
        """Print the time in one of Go's layouts, such as ``2006-01-02 15:04``."""
        return _LAYOUT.sub(lambda match: self._part(match[0]), layout)

    def _part(self, code: str) -> str:
        if code[0] in ".,":
            return self._fraction(code)
        if code[0] in "-Z" and len(code) > 1:
            return self._offset(code)
        return self._field(code)

    def _fraction(self, code: str) -> str:
        digits = f"{self.at.microsecond:06d}{self.nanosecond:03d}".ljust(len(code) - 1, "0")[
            : len(code) - 1
        ]
        if code[1] == "9":
            digits = digits.rstrip("0")
            return code[0] + digits if digits else ""
        return code[0] + digits

    def _offset(self, code: str) -> str:
        seconds = self.offset
        if code[0] == "Z" and not seconds:
            return "Z"
        sign, seconds = ("-", -seconds) if seconds < 0 else ("+", seconds)
        parts = [f"{seconds // 3600:02d}", f"{seconds // 60 % 60:02d}", f"{seconds % 60:02d}"]
        count = len(code.replace(":", "")[1:]) // 2
        return sign + (":" if ":" in code else "").join(parts[:count])

    def _field(self, code: str) -> str:
        at = self.at
        hour = at.hour % 12 or 12
        day_of_year = at.timetuple().tm_yday
        fields = {
            "January": _MONTHS[at.month - 1],
            "Jan": _MONTHS[at.month - 1][:3],
            "1": str(at.month),
            "01": f"{at.month:02d}",
            "Monday": _DAYS[self.weekday],
            "Mon": _DAYS[self.weekday][:3],
            "2": str(at.day),
            "_2": f"{at.day:2d}",
            "02": f"{at.day:02d}",
            "__2": f"{day_of_year:3d}",
            "002": f"{day_of_year:03d}",
            "2006": f"{at.year:04d}",
            "06": f"{at.year % 100:02d}",
            "_": "_",
            "15": f"{at.hour:02d}",
            "3": str(hour),
            "03": f"{hour:02d}",
            "PM": "AM" if at.hour < 12 else "PM",
            "pm": "am" if at.hour < 12 else "pm",
            "4": str(at.minute),
            "04": f"{at.minute:02d}",
            "5": str(at.second),
            "05": f"{at.second:02d}",
            "MST": self.zone,
        }
        return fields[code]

    @property
    def offset(self) -> int:
        """Return the number of seconds that the time zone is ahead of UTC."""
        return int((self.at.utcoffset() or timedelta()).total_seconds())

    @property
    def zone(self) -> str:
        """Return the name of the time zone.

        UTC, or its offset as Go names a zone that has no name.
        """
        if not self.offset:
            return "UTC"
        minutes = abs(self.offset) // 60
        return f"{'-' if self.offset < 0 else '+'}{minutes // 60:02d}" + (f"{minutes % 60:02d}")

    @property
    def weekday(self) -> int:
        """Return the day of the week, Sunday being 0."""
        return self.at.isoweekday() % 7

    @property
    def unix_nanoseconds(self) -> int:
        """Return the nanoseconds since 1970."""
        since = self.at - datetime(1970, 1, 1, tzinfo=UTC)
        return (
            (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        ) * 1_000 + self.nanosecond


def _zone(sign: str | None, hours: int, minutes: int) -> timezone:
    if hours > 24 or minutes > 59:
        raise ValueError("time zone offset out of range")
    offset = timedelta(hours=hours, minutes=minutes)
    if not offset:
        return UTC
    return timezone(-offset if sign == "-" else offset)
