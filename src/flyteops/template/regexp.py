"""Regular expressions with Go's syntax, in linear time and bounded memory."""

import re
from collections.abc import Callable
from typing import Any, Protocol

import re2  # type: ignore[import-untyped]

from flyteops.errors import TemplateLimitError
from flyteops.template.limit import Limits
from flyteops.template.value import clean

_FOREIGN = re.compile(r"(?:[^\\]|\\.)*?\\C", re.DOTALL)


class RegexpError(Exception):
    """The text is no regular expression."""


class Pattern(Protocol):
    """What is used of a compiled regular expression."""

    @property
    def groups(self) -> int:
        """Count the groups."""

    def search(self, text: bytes, /) -> Any:
        """Find the first match."""

    def sub(self, repl: Callable[[Any], bytes] | bytes, text: bytes, /) -> bytes:
        """Replace every match."""


def compile_pattern(source: str, limits: Limits) -> Pattern:
    """Compile a regular expression that searches UTF-8 bytes, or raise RegexpError."""
    if len(source) > limits.regexp_length:
        raise TemplateLimitError(
            f"the regular expression is longer than {limits.regexp_length} characters (limit regexp_length); shorten it"
        )
    if "\\C" in source and _FOREIGN.match(source):
        raise RegexpError("invalid escape sequence: `\\C`")
    options = re2.Options()
    options.max_mem = limits.regexp_memory
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(clean(source).encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else "?"
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in reason:
            raise TemplateLimitError(
                f"the regular expression needs more than {limits.regexp_memory} bytes (limit regexp_memory); simplify it"
            ) from None
        raise RegexpError(reason) from None
    return pattern
