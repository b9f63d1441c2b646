"""Output for people and programs: tables, times, JSON.

Text from others never reaches a terminal as control characters.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click
import msgspec

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

_NARROWEST = 8


def clean(text: str) -> str:
    """Return text without characters that could control a terminal; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


def one_line(text: str, width: int | None = None) -> str:
    """Return text on one line, cut to `width` characters."""
    flat = clean(" ".join(text.split()))
    return flat if width is None or len(flat) <= width else flat[: width - 1] + "…"


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
    widths = [max(len(row[index]) for row in [headers, *cells]) for index in range(len(headers))]
    if not is_terminal():
        for row in [[header.upper() for header in headers], *cells]:
            click.echo(_padded(row, widths))
        return
    widths = _fitting(
        widths, [len(header) for header in headers], shutil.get_terminal_size().columns
    )
    click.echo(_padded(headers, widths, lambda header, _: click.style(header, bold=True)))
    for row in cells:
        click.echo(
            _padded(
                [one_line(cell, width) for cell, width in zip(row, widths, strict=True)],
                widths,
                _styled(row),
            )
        )


def _padded(
    row: Sequence[str],
    widths: Sequence[int],
    style: Callable[[str, int], str] = lambda cell, _: cell,
) -> str:
    last = max((index for index, cell in enumerate(row) if cell), default=0)
    parts = [
        style(cell, index) + " " * (0 if index == last else width - len(cell))
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        if index <= last
    ]
    return "  ".join(parts)


def _styled(row: Sequence[str]) -> Callable[[str, int], str]:
    def style(cell: str, index: int) -> str:
        colour = COLOURS.get(row[index]) or ("yellow" if row[index].startswith(SILENT) else None)
        return cell if colour is None else click.style(cell, fg=colour)

    return style


def _fitting(widths: Sequence[int], least: Sequence[int], whole: int) -> list[int]:
    """Return widths that fit a row into a line of the terminal.

    The first column, which names the row, is never cut.
    """
    found = list(widths)
    while sum(found) + 2 * (len(found) - 1) > whole:
        shrinkable = [
            index for index in range(1, len(found)) if found[index] > max(least[index], _NARROWEST)
        ]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda index: found[index])
        found[widest] -= 1
    return found


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
