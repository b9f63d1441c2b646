"""Output for people and programs: tables, times, JSON.

Text from others never reaches a terminal as control characters.
"""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click
import msgspec

from flyteops.cli.width import cut, display_width, padding

COLOURS = {
    "live": "green",
    "warning": "yellow",
    "critical": "red",
    "NEW": "yellow",
    "PENDING": "yellow",
    "SUCCESS": "green",
    "FATAL": "red",
    "ran": "green",
    "skipped": "yellow",
    "failed": "red",
    "created": "green",
    "changed": "yellow",
    "unchanged": "bright_black",
}
"""The colours of states on a terminal."""


SILENT = "silent for "
"""The beginning of a state with the time since the last sign of life."""

_NARROW, _NARROWEST = 8, 4
"""The widths to which columns shrink: to the first if that is enough, else to the second."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_SHORT_TIME = re.compile(r"\d\d-\d\d \d\d:\d\d|\d{4}-\d\d-\d\d|")


def clean(text: str) -> str:
    """Return text without characters that could control a terminal; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


def one_line(text: str, width: int | None = None) -> str:
    """Return text on one line, cut to `width` columns."""
    flat = clean(" ".join(text.split()))
    return flat if width is None else cut(flat, width)


def coloured(word: str) -> str:
    """Return a state in its colour."""
    return click.style(word, fg=COLOURS[word]) if word in COLOURS else word


def dim(text: str) -> str:
    """Return text of minor importance."""
    return click.style(text, fg="bright_black")


def is_terminal() -> bool:
    """Return whether the output is a terminal."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """Print a JSON value, or JSON text, for programs and people alike."""
    text = value if isinstance(value, bytes) else msgspec.json.encode(value)
    click.echo(msgspec.json.format(text, indent=2).decode())


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows below headers; without rows, print the explanation `empty` on standard error."""
    if not rows:
        click.echo(empty, err=True)
        return
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not is_terminal():
        cells = [[header.upper() for header in headers], *cells]
        for row in cells:
            click.echo(_padded(row, _widths(cells)))
        return
    columns = shutil.get_terminal_size().columns
    if not _fits(_widths([headers, *cells]), columns):
        headers, cells = _condensed(headers, cells)
    widths = _fitting(headers, cells, columns)
    click.echo(
        _padded(_cut(headers, widths), widths, lambda header, _: click.style(header, bold=True))
    )
    for row in cells:
        click.echo(_padded(_cut(row, widths), widths, _styled(row)))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(display_width, column)) for column in zip(*rows, strict=True)]


def _cut(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cut(cell, width) for cell, width in zip(row, widths, strict=True)]


def _condensed(
    headers: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], list[list[str]]]:
    """Return a table without empty columns, and with short times."""
    shown = [index for index in range(len(headers)) if not index or any(row[index] for row in rows)]
    year = f"{datetime.now(UTC).astimezone():%Y}"
    return [headers[index] for index in shown], [
        [_short_time(row[index], year) for index in shown] for row in rows
    ]


def _short_time(text: str, year: str) -> str:
    """Return a time without its year and seconds, or the date alone if it is of another year."""
    if _TIME.fullmatch(text) is None:
        return text
    return text[5:16] if text.startswith(year) else text[:10]


def _padded(
    row: Sequence[str],
    widths: Sequence[int],
    style: Callable[[str, int], str] = lambda cell, _: cell,
) -> str:
    last = max((index for index, cell in enumerate(row) if cell), default=0)
    parts = [
        style(cell, index) + ("" if index == last else padding(cell, width))
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        if index <= last
    ]
    return "  ".join(parts)


def _styled(row: Sequence[str]) -> Callable[[str, int], str]:
    def style(cell: str, index: int) -> str:
        colour = COLOURS.get(row[index]) or ("yellow" if row[index].startswith(SILENT) else None)
        return cell if colour is None else click.style(cell, fg=colour)

    return style


def _fitting(headers: Sequence[str], rows: Sequence[Sequence[str]], whole: int) -> Sequence[int]:
    """Return widths that fit a row into a line of the terminal.

    The first column, which names the row, is never cut, nor are times and columns of short words.
    Headers are cut only where the rows do not fit otherwise.
    """
    found = _widths([headers, *rows])
    whole_words = [
        width if width <= _NARROW or all(map(_SHORT_TIME.fullmatch, column)) else 0
        for width, column in zip(_widths(rows), zip(*rows, strict=True), strict=True)
    ]
    for narrow in (
        [max(display_width(header), _NARROW) for header in headers],
        [_NARROWEST] * len(headers),
    ):
        least = list(map(max, narrow, whole_words))
        while not _fits(found, whole):
            shrinkable = [index for index in range(1, len(found)) if found[index] > least[index]]
            if not shrinkable:
                break
            widest = max(shrinkable, key=lambda index: found[index])
            found[widest] -= 1
    return found


def _fits(widths: Sequence[int], whole: int) -> bool:
    return sum(widths) + 2 * (len(widths) - 1) <= whole


def local_time(text: str) -> str:
    """Return a time of the API in the local time zone, to the second."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def format_ago(text: str, now: datetime | None = None) -> str:
    """Return the time since a time of the API, in one unit, as in "5 min ago"."""
    return f"{format_age(text, now)} ago"


def format_age(text: str, now: datetime | None = None) -> str:
    """Return the time since a time of the API, in one unit."""
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if age >= size:
            return f"{int(age // size)} {unit}"
    return f"{max(int(age), 0)} s"


def label_text(labels: dict[str, str]) -> str:
    """Return labels in the format of `FLYTE_LABELS`."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def value_text(raw: bytes | msgspec.Raw | msgspec.UnsetType, width: int | None = None) -> str:
    """Return a JSON value as compact text; text without its quotes, and nothing for null."""
    if isinstance(raw, msgspec.UnsetType) or bytes(raw) == b"null":
        return ""
    value = msgspec.json.decode(raw)
    return one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode(), width)
