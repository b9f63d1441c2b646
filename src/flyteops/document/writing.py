"""JSON values to YAML text."""

import re
from typing import Any

import yaml

from flyteops.document.yamlreader import TAG
from flyteops.model import JsonValue

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

LOOKS_LIKE_SOMETHING_ELSE = re.compile(
    r"[yYnN]|true|false|yes|no|on|off|null|~|<<|=|[-+.]?[0-9][0-9_:.,eExXoObB+a-fA-F-]*([tT"
    r" ].*)?|[-+]?\.(inf|nan)|",
    re.IGNORECASE,
)


class _PlainDumper(Dumper):  # type: ignore[misc] # the class is chosen at run time
    """Writes text that no other reader takes for another type, and never writes aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if LOOKS_LIKE_SOMETHING_ELSE.fullmatch(text):
        style = '"'
    elif "\n" in text and all(line.isprintable() for line in text.split("\n")):
        style = "|"
    return dumper.represent_scalar(TAG + "str", text, style=style)


_PlainDumper.add_representer(str, _represent_text)


def to_yaml(value: JsonValue) -> bytes:
    """Return a JSON value as YAML text that every reader of YAML 1.1 or 1.2 understands alike."""
    text: str = yaml.dump(
        value,
        Dumper=_PlainDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=1_000_000,
    )
    return text.encode()
