"""What people and programs read: tables, times, JSON. Nothing that others wrote reaches a terminal as control characters."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
"""How words that tell a state are shown on a terminal."""


def clean(text: str) -> str:
    """Return text without anything that could steer a terminal; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def one_line(text: str, width: int | None = None) -> str:
    """Return text on one line, cut to `width` characters."""
    flat = clean(" ".join(text.split()))
    return flat if width is None or len(flat) <= width else flat[: width - 1] + "…"


def coloured(word: str) -> str:
    """Return a word in the colour of what it tells."""
    return click.style(word, fg=COLOURS[word]) if word in COLOURS else word


def dim(text: str) -> str:
    """Return text that may be overlooked."""
    return click.style(text, fg="bright_black")


def is_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print a JSON value, or JSON text, for programs and people alike."""
    text = value if isinstance(value, bytes) else msgspec.json.encode(value)
    click.echo(msgspec.json.format(text, indent=2).decode())


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows below headers; `empty` says on standard error what it means that there are none."""
    if not rows:
        click.echo(empty, err=True)
        return
    cells = [[one_line(cell) for cell in row] for row in rows]
    if is_terminal():
        try:
            _print_rich(headers, cells)
            return
        except ModuleNotFoundError:
            pass  # the base install has no rich; plain text will do
    widths = [max(len(row[index]) for row in [headers, *cells]) for index in range(len(headers))]
    for row in [[header.upper() for header in headers], *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not part of the base install
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, header in enumerate(headers):
        table.add_column(header, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    Console(no_color=bool(os.environ.get("NO_COLOR"))).print(table)


def local_time(text: str) -> str:
    """Return a time of the API in the time zone of whoever reads it, to the second."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def ago(text: str, now: datetime | None = None) -> str:
    """Return how long ago a time of the API was, in one unit."""
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if age >= size:
            return f"{int(age // size)} {unit} ago"
    return f"{max(int(age), 0)} s ago"


def label_text(labels: dict[str, str]) -> str:
    """Return labels as `FLYTE_LABELS` takes them."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def value_text(raw: bytes | msgspec.Raw | msgspec.UnsetType, width: int | None = None) -> str:
    """Return a JSON value as compact text; text without its quotes, and nothing for null."""
    if isinstance(raw, msgspec.UnsetType) or bytes(raw) == b"null":
        return ""
    value = msgspec.json.decode(raw)
    return one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode(), width)
