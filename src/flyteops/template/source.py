"""Places in a template's source."""

from typing import TypeVar

from flyteops.errors import TemplateError

Error = TypeVar("Error", bound=TemplateError)


def place(source: str, offset: int) -> tuple[int, int]:
    """Return the line and the column of an offset, both from 1."""
    return source.count("\n", 0, offset) + 1, offset - source.rfind("\n", 0, offset)


def located(error: Error, source: str, offset: int) -> Error:
    """Give an error its place unless a part further inside has given it one."""
    if error.line is None:
        error.line, error.column = place(source, offset)
    return error
