"""Filters of lists, and of texts as lists of characters."""

import math
from collections.abc import Sequence

from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.identity import identity
from flyteops.template.typed.filter.operand import (
    need_count,
    need_integer,
    need_list,
    need_text,
    unfit,
)
from flyteops.template.typed.value import LIST, MAP, TEXT, Value, kind_of, text_of


def _sequence(name: str, value: Value) -> Sequence[Value]:
    if kind_of(value) not in (LIST, TEXT):
        raise unfit(name, "a list or a text", value)
    return value  # type: ignore[no-any-return]


def length(value: Value, *, env: Environment) -> int:
    """Count items, characters or entries; null has none."""
    if value is None:
        return 0
    env.spend(1)
    if kind_of(value) not in (LIST, TEXT, MAP):
        raise unfit("length", "a list, a text or a map", value)
    return len(value)


def length_is(value: Value, count: Value, *, env: Environment) -> bool:
    """Return whether there are so many items, characters or entries."""
    wanted = need_integer("length_is", count)
    return length(value, env=env) == wanted


def first(value: Value, *, env: Environment) -> Value:
    """Return the first item or character; null when there is none."""
    return _at("first", value, 0, env)


def last(value: Value, *, env: Environment) -> Value:
    """Return the last item or character; null when there is none."""
    return _at("last", value, -1, env)


def index(value: Value, position: Value, *, env: Environment) -> Value:
    """Return the item or character at a position from 0, or from the end when it is negative."""
    return _at("index", value, need_integer("index", position), env)


def _at(name: str, value: Value, position: int, env: Environment) -> Value:
    if value is None:
        return None
    items = _sequence(name, value)
    env.spend(1)
    return items[position] if -len(items) <= position < len(items) else None


def random_item(value: Value, *, env: Environment) -> Value:
    """Return a random item or character; null when there is none."""
    if value is None:
        return None
    items = _sequence("random", value)
    return items[env.random().randrange(len(items))] if items else None


def cut_out(value: Value, start: Value, *stop: Value, env: Environment) -> Value:
    """Return the items or characters from one position to before another.

    The positions are two arguments or one text such as ``1:3``; negative ones count from the end.
    """
    begin, end = (_bound(start), _bound(stop[0])) if stop else _bounds(start)
    if value is None:
        return None
    items = _sequence("slice", value)
    part = items[begin:end]
    if isinstance(items, str):
        env.check_length(len(part))
        return part
    env.check_count(len(part))
    return list(part)


def _bounds(given: Value) -> tuple[int | None, int | None]:
    if kind_of(given) != TEXT:
        return _bound(given), None
    parts = given.split(":")
    if len(parts) != 2:
        raise unfit("slice", "positions such as '1:3', ':3' or '-3:' as its argument", given)
    return _text_bound(parts[0], given), _text_bound(parts[1], given)


def _text_bound(part: str, given: str) -> int | None:
    stripped = part.strip()
    if not stripped:
        return None
    digits = stripped.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise unfit("slice", "positions such as '1:3', ':3' or '-3:' as its argument", given)
    return int(stripped)


def _bound(given: Value) -> int | None:
    return None if given is None else need_integer("slice", given, "integers as its arguments")


def join(value: Value, separator: Value = "", *, env: Environment) -> str | None:
    """Join the items, as they print, or the characters with a separator."""
    between = need_text("join", separator)
    if value is None:
        return None
    items = _sequence("join", value)
    env.spend(len(items))
    texts: list[str] = []
    size = 0
    for item in items:
        texts.append(text_of(item, env))
        size += len(texts[-1]) + len(between)
        if size - len(between) > env.limits.value_length:
            break
    env.check_length(max(0, size - len(between)))
    return between.join(texts)


def unique(value: Value, *, env: Environment) -> list[Value] | None:
    """Return every value of a list once, in the order of their first appearance."""
    if value is None:
        return None
    kept: dict[object, Value] = {}
    for item in need_list("unique", value, env):
        kept.setdefault(identity(item, env), item)
    return list(kept.values())


def flatten(value: Value, levels: Value = None, *, env: Environment) -> list[Value] | None:
    """Replace lists in a list by their items, at all levels or at so many."""
    depth = math.inf if levels is None else need_count("flatten", levels)
    if value is None:
        return None
    flat: list[Value] = []
    left = [(iter(need_list("flatten", value, env)), 0)]
    while left:
        items, level = left[-1]
        item = next(items, left)
        env.spend(1)
        if item is left:
            left.pop()
        elif kind_of(item) == LIST and level < depth:
            left.append((iter(item), level + 1))
        else:
            flat.append(item)
            if len(flat) > env.limits.list_length:
                env.check_count(len(flat))
    return flat
