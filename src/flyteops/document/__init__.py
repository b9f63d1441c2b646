"""Documents: JSON and YAML text parsed to plain values, with the places of all parts and faults.

YAML follows JSON's types: dates and times stay text, ``yes`` and ``on`` are booleans while ``y``
and ``n`` are text, keys are always strings as written, a duplicate key is an error, aliases are
expanded within bounds.
"""

from flyteops.document.parsing import (
    decode_json,
    first_json,
    parse_json,
    parse_yaml,
    repair_json,
)
from flyteops.document.position import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    Document,
    Path,
    Position,
    Positions,
    path_text,
)
from flyteops.document.writing import to_yaml

__all__ = [
    "MAX_DEPTH",
    "MAX_PROBLEMS",
    "Document",
    "Path",
    "Position",
    "Positions",
    "decode_json",
    "first_json",
    "parse_json",
    "parse_yaml",
    "path_text",
    "repair_json",
    "to_yaml",
]
