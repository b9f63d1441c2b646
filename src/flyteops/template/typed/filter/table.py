"""The filter that prints a table."""

import re
import unicodedata
from collections.abc import Sequence

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.operand import (
    is_number,
    need_list,
    need_text,
    unfit,
)
from flyteops.template.typed.filter.path import reader
from flyteops.template.typed.value import LIST, MAP, Value, kind_of, text_of

_GAP = "  "
_BREAKS = re.compile(r"\s+")


def table(value: Value, columns: Value = None, *, env: Environment) -> str | None:
    """Print a list of maps as an aligned table, for a block of code in a message.

    The columns are paths; without them, every key of the maps is one. Numbers stand on the right.
    """
    titles = None if columns is None else _columns(columns)
    if value is None:
        return None
    rows = need_list("table", value, env)
    if titles is None:
        titles = _keys(rows, env)
    env.check_count(len(rows) * len(titles))
    readers = [reader("table", title) for title in titles]
    cells = [[read(row) for read in readers] for row in rows]
    texts = [[_cell(cell, env) for cell in row] for row in cells]
    numeric = [_is_numeric([row[column] for row in cells]) for column in range(len(titles))]
    return _aligned([_cell(title, env) for title in titles], texts, numeric, env)


def _columns(columns: Value) -> list[str]:
    if kind_of(columns) != LIST:
        raise unfit("table", "a list of columns such as ['name', 'labels.env']", columns)
    if not columns:
        raise TemplateRenderError("`table` needs at least one column")
    return [need_text("table", each, "texts as columns") for each in columns]


def _keys(rows: Sequence[Value], env: Environment) -> list[str]:
    found: dict[str, None] = {}
    for index, row in enumerate(rows):
        if kind_of(row) != MAP:
            raise unfit("table", "a list of maps, or columns", row, place=f" at index {index}")
        env.spend(len(row))
        found.update(dict.fromkeys(sorted(row)))
    return list(found)


def _cell(value: Value, env: Environment) -> str:
    string = text_of(value, env)
    env.spend(1 + (len(string) >> 6))
    return _BREAKS.sub(" ", string).strip()


def _is_numeric(cells: Sequence[Value]) -> bool:
    return any(map(is_number, cells)) and all(each is None or is_number(each) for each in cells)


def _aligned(
    titles: list[str], rows: list[list[str]], numeric: list[bool], env: Environment
) -> str:
    widths = [max(_width(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    env.check_length((len(rows) + 2) * (sum(widths) + len(_GAP) * len(widths)))
    lines = [
        _line(titles, widths, numeric),
        _GAP.join("-" * width for width in widths),
        *(_line(row, widths, numeric) for row in rows),
    ]
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int], numeric: list[bool]) -> str:
    padded = (
        " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _width(string: str) -> int:
    """Return the number of columns that a text takes in a font of one width."""
    if string.isascii():
        return len(string)
    return sum(_columns_of(character) for character in string)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
