"""Filters on lists, and on texts as lists of characters."""

from typing import Any

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.casing import SPACES
from flyteops.template.state import RenderState
from flyteops.template.value import (
    LISTS,
    MAPS,
    TEXTS,
    Strings,
    Value,
    element,
    joined,
    length,
    text,
    to_int,
)


def _sliceable(value: object) -> bool:
    return type(value) in LISTS or type(value) in TEXTS


def first(value: Value, _argument: Value, _state: RenderState) -> Value:
    """Return the first item or character."""
    return element(value[0]) if _sliceable(value) and value else ""


def last(value: Value, _argument: Value, _state: RenderState) -> Value:
    """Return the last item or character."""
    return element(value[-1]) if _sliceable(value) and value else ""


def join(value: Value, argument: Value, state: RenderState) -> Value:
    """Join the items or characters with a separator."""
    if not _sliceable(value):
        return value
    separator = text(argument)
    state.charge(len(value))
    items = [text(element(item)) for item in value]
    size = sum(map(len, items)) + len(separator) * max(0, len(items) - 1)
    state.check_length(size)
    return joined(separator.join(items))


def length_of(value: object, _argument: object, _state: RenderState) -> int:
    """Count the items or characters."""
    return length(value)


def length_is(value: object, argument: object, _state: RenderState) -> bool:
    """Return whether there are so many items or characters."""
    return length(value) == to_int(argument)


def random_item(value: Value, _argument: Value, state: RenderState) -> Value:
    """Return a random item or character."""
    if not _sliceable(value) or not value:
        return value
    return element(value[state.chance().randrange(len(value))])


def cut_out(value: Value, argument: Value, _state: RenderState) -> Value:
    """Return the items or characters from one position to before another."""
    bounds = text(argument).split(":")
    if len(bounds) != 2:
        raise TemplateRenderError(
            "Slice string must have the format 'from:to' [from/to can be omitted, but the ':' is"
            " required]"
        )
    if not _sliceable(value):
        return value
    size = len(value)
    start, stop = min(to_int(bounds[0]), size), to_int(bounds[1])
    if start < 0:
        raise TemplateAbort(f"slice bounds out of range [{start}:]")
    part = value[start : stop if start <= stop <= size else size]
    return Strings(part) if type(value) is Strings else part


def index(value: Value, argument: Value, _state: RenderState) -> Value:
    """Return the item or character at a position from 0."""
    if not _sliceable(value) or not value:
        return ""
    position = to_int(argument)
    if position < 0:
        raise TemplateAbort(f"index out of range [{position}]")
    if position >= len(value):
        return None if type(value) in LISTS else ""
    return element(value[position])


def key(value: Value, argument: Value, _state: RenderState) -> Value:
    """Return a map's value under a key."""
    if value is None:
        return None
    if type(value) not in MAPS:
        raise TemplateAbort("the filter 'key' works on maps only")
    return element(value.get(text(argument)))


def kvp(value: object, _argument: object, state: RenderState) -> dict[str, Any]:
    """Read text such as ``a=1, b=2`` as a map; a part without exactly one `=` is left out."""
    items = text(value).split(",")
    state.check_list(len(items))
    pairs = (item.split("=") for item in items)
    return {pair[0].strip(SPACES): pair[1].strip(SPACES) for pair in pairs if len(pair) == 2}
