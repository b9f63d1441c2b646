"""Files with several YAML documents, split so that every problem keeps its line."""

import re
from contextlib import suppress

import yaml

from flyteops.document.yamlreader import Loader, is_nothing

YAML_LINE = re.compile(
    r"[^\r\n\x85\u2028\u2029]*(?:\r\n|[\r\n\x85\u2028\u2029])|[^\r\n\x85\u2028\u2029]+"
)
"""A line in the sense of YAML, with its end."""


def split_yaml(data: bytes) -> list[bytes]:
    """Return the YAML documents in a text, each on its lines, with empty lines for those before it.

    Empty documents are left out, unless there are no others. From a syntax error on, the text is
    one document.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [data]
    starts = _document_starts(text)
    if len(starts) < 2:
        return [data]
    lines = YAML_LINE.findall(text)
    bounds = [0, *(line for line, _ in starts[1:]), len(lines)]
    found = []
    for (_, is_empty), begin, end in zip(starts, bounds, bounds[1:], strict=False):
        if not is_empty:
            found.append("\n" * begin + "".join(lines[begin:end]))
    return [part.encode() for part in found] or [data]


def _document_starts(text: str) -> list[tuple[int, bool]]:
    """Return the line on which each document starts, and whether it is empty."""
    starts: list[tuple[int, bool]] = []
    with suppress(yaml.YAMLError):
        events = yaml.parse(text, Loader=Loader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                line = 0 if event.start_mark is None else event.start_mark.line
                starts.append((line, False))  # a fault may follow
                starts[-1] = (line, is_nothing(next(events)))
    return starts
