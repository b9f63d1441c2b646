"""Filters on text."""

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template import arithmetic
from flyteops.template.casing import lower, title, upper, words
from flyteops.template.goformat import sprintf
from flyteops.template.gotime import Time
from flyteops.template.state import RenderState
from flyteops.template.value import (
    NUMBERS,
    TEXTS,
    Strings,
    Value,
    joined,
    length,
    text,
    to_int,
    truth,
)

_PHONE = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999" * 2
)
_WIDEST = 1_000_000


def same(value: object, _argument: object, _state: RenderState) -> object:
    """Return the value."""
    return value


def add(value: object, argument: object, _state: RenderState) -> object:
    """Add two numbers, or join two texts."""
    if type(value) in NUMBERS and type(argument) in NUMBERS:
        return arithmetic.add(value, argument)
    return joined(text(value) + text(argument))


def addslashes(value: object, _argument: object, _state: RenderState) -> str:
    """Put a backslash before backslashes and quotes."""
    return text(value).replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")


def capfirst(value: object, _argument: object, _state: RenderState) -> str:
    """Put the first letter in upper case."""
    if not length(value):
        return ""
    string = text(value)
    return upper(string[0]) + string[1:]


def _padding(value: object, argument: object, state: RenderState) -> int:
    width = to_int(argument)
    if width > length(value):
        state.check_length(width)
    return max(0, width - length(value))


def center(value: object, argument: object, state: RenderState) -> object:
    """Put blanks around the text up to a width."""
    spaces = _padding(value, argument, state)
    if not spaces:
        return value
    return " " * (spaces - spaces // 2) + text(value) + " " * (spaces // 2)


def ljust(value: object, argument: object, state: RenderState) -> str:
    """Put blanks behind the text up to a width."""
    return text(value) + " " * _padding(value, argument, state)


def rjust(value: object, argument: object, state: RenderState) -> str:
    """Put blanks before the text up to a width, or behind it if the width is negative."""
    width = to_int(argument)
    if abs(width) > _WIDEST:
        return "%!(BADWIDTH)" + text(value)
    state.check_length(abs(width))
    return text(value).rjust(width) if width >= 0 else text(value).ljust(-width)


def cut(value: object, argument: object, _state: RenderState) -> str:
    """Remove every occurrence of the argument."""
    removed = text(argument)
    return text(value).replace(removed, "") if removed else text(value)


def date(value: object, argument: object, state: RenderState) -> str:
    """Print a time in one of Go's layouts."""
    if type(value) is not Time:
        raise TemplateRenderError("filter input argument must be of type 'time.Time'")
    layout = text(argument)
    state.charge(len(layout))
    return value.format(layout)


def default(value: object, argument: object, _state: RenderState) -> object:
    """Return the argument if the value counts as false."""
    return value if truth(value) else argument


def default_if_none(value: object, argument: object, _state: RenderState) -> object:
    """Return the argument if the value is nothing."""
    return argument if value is None else value


def to_lower(value: object, _argument: object, state: RenderState) -> str:
    """Return the text in lower case."""
    return lower(_weighed(text(value), state))


def to_upper(value: object, _argument: object, state: RenderState) -> str:
    """Return the text in upper case."""
    return upper(_weighed(text(value), state))


def to_title(value: Value, _argument: Value, state: RenderState) -> str:
    """Return a text with every word capitalised."""
    return title(lower(_weighed(value, state))) if type(value) in TEXTS else ""


def _weighed(string: str, state: RenderState) -> str:
    """Charge for work done character by character."""
    state.charge(len(string) >> 2)
    return string


def _words(value: object, state: RenderState) -> list[str]:
    return words(_weighed(text(value), state))


def linenumbers(value: object, _argument: object, state: RenderState) -> str:
    """Prefix each line with its number."""
    lines = text(value).split("\n")
    state.check_list(len(lines))
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def make_list(value: object, _argument: object, state: RenderState) -> Strings:
    """Return the characters."""
    string = text(value)
    state.check_list(len(string))
    return Strings(string)


def split(value: object, argument: object, state: RenderState) -> Strings:
    """Split at a separator, or into characters when there is none."""
    string, separator = text(value), text(argument)
    if not separator:
        return make_list(value, argument, state)
    state.check_list(string.count(separator) + 1)
    return Strings(string.split(separator))


def phone2numeric(value: object, _argument: object, _state: RenderState) -> str:
    """Replace letters by the digits of a telephone."""
    return text(value).translate(_PHONE)


def stringformat(value: object, argument: object, state: RenderState) -> str:
    """Print the value as Go's Sprintf does with one argument."""
    return sprintf(text(argument), value, state.check_length, state.charge)


def truncatechars(value: object, argument: object, _state: RenderState) -> str:
    """Cut to a number of characters, including the dots."""
    string, size = text(value), to_int(argument)
    if size >= len(string):
        return string
    if size < 0:
        raise TemplateAbort(f"slice bounds out of range [:{size}]")
    return string[: size - 3] + "..." if size >= 3 else string[:size]


def truncatewords(value: object, argument: object, state: RenderState) -> str:
    """Cut to a number of words."""
    every, count = _words(value, state), to_int(argument)
    if count <= 0:
        return ""
    return " ".join([*every[:count], "..."] if count < len(every) else every)


def wordcount(value: object, _argument: object, state: RenderState) -> int:
    """Count the words."""
    return len(_words(value, state))


def wordwrap(value: object, argument: object, state: RenderState) -> object:
    """Put so many words on a line; some numbers of words abort, as in the original engine."""
    every, size = _words(value, state), to_int(argument)
    if size <= 0:
        return value
    lines = len(every) // size + len(every) % size
    if lines and size * (lines - 1) > len(every):
        first = next(line for line in range(lines) if size * line > len(every))
        raise TemplateAbort(f"slice bounds out of range [{size * first}:{len(every)}]")
    return "\n".join(" ".join(every[size * line : size * (line + 1)]) for line in range(lines))


def yesno(value: object, argument: object, _state: RenderState) -> str:
    """Choose a word for true, false and nothing."""
    given = text(argument)
    choices = given.split(",") if given else ["yes", "no", "maybe"]
    if len(choices) > 3:
        raise TemplateRenderError(
            f"You cannot pass more than 3 options to the 'yesno'-filter (got: '{given}')."
        )
    if len(choices) < 2:
        raise TemplateRenderError(
            "You must pass either no or at least 2 arguments to the 'yesno'-filter (got:"
            f" '{given}')."
        )
    if value is None:
        return choices[2] if len(choices) == 3 else "maybe"
    return choices[0] if truth(value) else choices[1]
