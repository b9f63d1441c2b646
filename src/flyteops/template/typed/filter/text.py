"""Filters of texts."""

from flyteops.errors import TemplateRenderError
from flyteops.template.casing import SPACES, words
from flyteops.template.filter import text as first_edition
from flyteops.template.gotime import Time
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.adapter import run
from flyteops.template.typed.filter.operand import (
    is_number,
    need_count,
    need_text,
    printed,
)
from flyteops.template.typed.value import (
    LIST,
    MAP,
    TEXT,
    TIME,
    Value,
    checked_number,
    kind_of,
    text_of,
    truth,
)


def as_string(value: Value, *, env: Environment) -> str:
    """Return any value as it prints; null is the empty text."""
    return env.check_text(text_of(value, env))


def same(value: Value, *, env: Environment) -> Value:
    """Return the value."""
    return value


def add(value: Value, other: Value, *, env: Environment) -> Value:
    """Add two numbers, join two lists, or join anything else as text."""
    if is_number(value) and is_number(other):
        try:
            return checked_number(value + other)
        except OverflowError:
            raise TemplateRenderError(
                "`add` got an integer that is too large for a float"
            ) from None
    if kind_of(value) == kind_of(other) == LIST:
        env.check_count(len(value) + len(other))
        return [*value, *other]
    left, right = text_of(value, env), text_of(other, env)
    env.check_length(len(left) + len(right))
    return left + right


def trim(value: Value, *, env: Environment) -> str | None:
    """Remove white space at both ends."""
    if value is None:
        return None
    return printed("trim", value, env).strip(SPACES)


def startswith(value: Value, beginning: Value, *, env: Environment) -> bool:
    """Return whether a text begins with another."""
    needed = need_text("startswith", beginning)
    return value is not None and printed("startswith", value, env).startswith(needed)


def endswith(value: Value, ending: Value, *, env: Environment) -> bool:
    """Return whether a text ends with another."""
    needed = need_text("endswith", ending)
    return value is not None and printed("endswith", value, env).endswith(needed)


def replace(value: Value, old: Value, new: Value, *, env: Environment) -> str | None:
    """Replace every occurrence of a text."""
    sought = need_text("replace", old, "a text to look for")
    if not sought:
        raise TemplateRenderError("`replace` needs a text to look for that is not empty")
    if value is None:
        return None
    string, inserted = printed("replace", value, env), printed("replace", new, env)
    env.check_length(len(string) + string.count(sought) * (len(inserted) - len(sought)))
    return string.replace(sought, inserted)


def wordwrap(value: Value, count: Value, *, env: Environment) -> str | None:
    """Put so many words on a line."""
    size = need_count("wordwrap", count, 1)
    if value is None:
        return None
    string = printed("wordwrap", value, env)
    env.spend(len(string) >> 2)
    every = words(string)
    lines = (every[start : start + size] for start in range(0, len(every), size))
    return "\n".join(" ".join(line) for line in lines)


def wordcount(value: Value, *, env: Environment) -> int:
    """Count the words."""
    string = printed("wordcount", value, env)
    env.spend(len(string) >> 2)
    return len(words(string))


def split(value: Value, separator: Value = "", *, env: Environment) -> list[str] | None:
    """Split at a separator, or into characters when there is none."""
    between = need_text("split", separator)
    if value is None:
        return None
    string = printed("split", value, env)
    env.check_count(string.count(between) + 1 if between else len(string))
    return string.split(between) if between else list(string)


def characters(value: Value, *, env: Environment) -> list[str] | None:
    """Return the characters of a text."""
    return split(value, env=env)


def stringformat(value: Value, layout: Value, *, env: Environment) -> str:
    """Print a value in a layout of Go's Sprintf."""
    form = need_text("stringformat", layout, "a text such as '%05d' as its argument")
    result: str = run(first_edition.stringformat, _printable(value, env), form, env)
    return result


def _printable(value: Value, env: Environment) -> Value:
    kind = kind_of(value)
    if kind == TIME:
        return Time(value)
    return text_of(value, env) if kind in (LIST, MAP) else value


def yesno(value: Value, choices: Value = "yes,no,maybe", *, env: Environment) -> str:
    """Choose a word for true, false and null."""
    given = need_text("yesno", choices, "a text such as 'yes,no,maybe' as its argument")
    return str(run(first_edition.yesno, None if value is None else truth(value), given, env))


def default(value: Value, other: Value, *, env: Environment) -> Value:
    """Return the argument if the value is null or empty; 0 and false are values."""
    env.spend(1)
    is_empty = value is None or (kind_of(value) in (TEXT, LIST, MAP) and not value)
    return other if is_empty else value


def default_if_none(value: Value, other: Value, *, env: Environment) -> Value:
    """Return the argument if the value is null."""
    return other if value is None else value
