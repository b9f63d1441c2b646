"""SQL statements in named files: blocks that begin with a line ``-- name: …``.

A block may include an earlier one of its file by ``{its_name}``. Comment lines are for readers and
are not part of a statement.
"""

import re
from collections.abc import Iterator
from importlib.resources import files

NAME = re.compile(r"-- name: ([a-z][a-z0-9_]*)")
INCLUDE = re.compile(r"\{(\w+)\}")


class StatementError(ValueError):
    """A file of statements is malformed."""


class Statements:
    """The statements of a file, as attributes.

    A name that does not exist is an `AttributeError`.
    """

    def __init__(self, text: str, where: str) -> None:
        """Parse the text; raise `StatementError` if it is malformed."""
        self._where = where
        for name, block in _blocks(text, where):
            if name in vars(self):
                raise StatementError(f"{where} has two statements {name!r}.")
            vars(self)[name] = self._expand(name, block)

    def _expand(self, name: str, block: str) -> str:
        def include(match: re.Match[str]) -> str:
            found = vars(self).get(match[1])
            if found is None:
                raise StatementError(
                    f"{self._where}: {name!r} includes {match[1]!r}, which does not stand before"
                    " it."
                )
            return str(found)

        if not block:
            raise StatementError(f"{self._where}: the statement {name!r} is empty.")
        return INCLUDE.sub(include, block)

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"There is no statement {name!r} in {self._where}.")

    def names(self) -> frozenset[str]:
        """Return the names of all statements."""
        return frozenset(vars(self)) - {"_where"}


def _blocks(text: str, where: str) -> Iterator[tuple[str, str]]:
    name: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        match = NAME.fullmatch(line.rstrip())
        if match is None and line.startswith("-- name"):
            raise StatementError(f"{where}: {line!r} does not name a statement.")
        if match is not None:
            if name is not None:
                yield name, "\n".join(lines).strip()
            name, lines = match[1], []
        elif line.strip() and not line.lstrip().startswith("--"):
            if name is None:
                raise StatementError(f"{where} has SQL before the first name.")
            lines.append(line.rstrip())
    if name is None:
        raise StatementError(f"{where} has no statements.")
    yield name, "\n".join(lines).strip()


def load_statements(package: str, name: str) -> Statements:
    """Return the statements of ``sql/<name>.sql`` in a package."""
    text = files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return Statements(text, f"{package}/sql/{name}.sql")
