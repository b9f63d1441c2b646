"""Flow files: finding them, and reading them with the place of every fault."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, overload

from flyteops.cli.yamlfile import split_yaml
from flyteops.errors import InputError, Problem
from flyteops.flow.file import key_advice, lint, parse, read_flow, template_faults
from flyteops.model import Flow, JsonValue

EXTENSIONS = (".yaml", ".yml", ".json")
STDIN = Path("-")


class FlowSource(NamedTuple):
    """The text of one flow, and its origin; `number` counts the YAML documents of a file."""

    file: str
    content: bytes
    is_yaml: bool
    number: int = 1

    @property
    def content_type(self) -> str:
        return "application/x-yaml" if self.is_yaml else "application/json"


class ReadResult(NamedTuple):
    """The result of reading a source: a flow, or the problems that prevent it; and warnings."""

    source: FlowSource
    flow: Flow | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class SourceCollection(NamedTuple):
    """The contents of files and directories: readings of flows, and files without flows."""

    readings: list[ReadResult]
    others: list[Path]


def collect(paths: Iterable[Path], *, is_lenient: bool = False) -> SourceCollection:
    """Read all flows of files and directories; in a directory, skip files that clearly hold none.

    If it `is_lenient`, a template that cannot be parsed is a warning, unless there are other
    problems.
    """
    readings: list[ReadResult] = []
    others: list[Path] = []
    for path in paths:
        is_directory = path.is_dir()
        for file in _walk(path) if is_directory else (path,):
            found = read_file(file, only_flows=is_directory, is_lenient=is_lenient)
            readings += found
            if not found:
                others.append(file)
    return SourceCollection(list(_without_doubles(readings)), others)


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not hidden:
            yield path


def read_file(
    path: Path, *, only_flows: bool = False, is_lenient: bool = False
) -> list[ReadResult]:
    """Read the flows of one file, or of standard input for `-`.

    A YAML file may hold several documents. With `only_flows`, skip documents that are well-formed
    but not a flow.
    """
    file = "stdin" if path == STDIN else str(path)
    try:
        content = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        return [
            ReadResult(
                FlowSource(file, b"", is_yaml=True),
                None,
                (Problem("", f"cannot be read: {error.strerror}"),),
            )
        ]
    is_yaml = _is_yaml(path, content)
    parts = split_yaml(content) if is_yaml else [content]
    sources = [FlowSource(file, part, is_yaml, number) for number, part in enumerate(parts, 1)]
    readings = [
        read_content(source, only_flows=only_flows, is_lenient=is_lenient) for source in sources
    ]
    return [reading for reading in readings if reading is not None]


@overload
def read_content(source: FlowSource) -> ReadResult: ...
@overload
def read_content(
    source: FlowSource, *, only_flows: bool, is_lenient: bool = False
) -> ReadResult | None: ...
def read_content(
    source: FlowSource, *, only_flows: bool = False, is_lenient: bool = False
) -> ReadResult | None:
    """Read a text. With `only_flows`, return None for a well-formed document that is not a flow."""
    warnings: tuple[Problem, ...] = ()
    try:
        document = parse(source.content, is_yaml=source.is_yaml)
        warnings = tuple(key_advice(document))
        if only_flows and not looks_like_flow(document.value):
            return None
        flow = read_flow(document, is_lenient=is_lenient)
    except InputError as error:
        if only_flows and b"steps" not in source.content:
            return None
        return ReadResult(source, None, error.problems or (Problem("", error.message),), warnings)
    return ReadResult(source, flow, (), (*template_faults(document), *lint(document, flow)))


def _is_yaml(path: Path, content: bytes) -> bool:
    if path == STDIN:
        return content.lstrip()[:1] != b"{"
    return path.suffix.lower() != ".json"


def looks_like_flow(value: JsonValue) -> bool:
    """Return whether this is meant to be a flow, valid or not."""
    if not isinstance(value, dict):
        return False
    keys = {key.casefold() for key in value}
    return "steps" in keys or ("name" in keys and keys <= {"name", "description"})


def _without_doubles(readings: Iterable[ReadResult]) -> Iterator[ReadResult]:
    seen: dict[str, FlowSource] = {}
    for reading in readings:
        if reading.flow is None:
            yield reading
            continue
        name, source = reading.flow.name, reading.source
        first = seen.setdefault(name, source)
        if (first.file, first.number) == (source.file, source.number):
            yield reading
        else:
            yield reading._replace(
                flow=None,
                problems=(
                    Problem(
                        "name",
                        f"flow {name!r} is in {_shown(first, source.file)} too; only that one is"
                        " applied",
                    ),
                ),
            )


def _shown(source: FlowSource, other_file: str) -> str:
    return (
        source.file if source.file != other_file else f"document {source.number} of {source.file}"
    )


def format_problem(file: str, problem: Problem) -> str:
    """Return a problem in the format of compilers: file, line, column, message."""
    where = file if problem.line is None else f"{file}:{problem.line}:{problem.column or 1}"
    return (
        f"{where}: {problem.path}: {problem.message}"
        if problem.path
        else f"{where}: {problem.message}"
    )
