"""Filters of lists by a path into their items."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from flyteops.errors import TemplateRenderError
from flyteops.template.limit import Limits
from flyteops.template.regexp import Pattern, compile_pattern
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.identity import identity
from flyteops.template.typed.filter.operand import check_order, need_list, unfit
from flyteops.template.typed.filter.path import reader
from flyteops.template.typed.filter.pattern import Compile, compiled, matches
from flyteops.template.typed.filter.spec import FilterCall, TypedFilter
from flyteops.template.typed.value import (
    LIST,
    MAP,
    TEXT,
    Value,
    compare,
    kind_of,
)

Test = Callable[[Value], bool]
Selected = Callable[[Value, Environment], list[Value] | None]


def map_items(value: Value, path: Value, *, env: Environment) -> list[Value] | None:
    """Return the value at a path of each item; a missing one is null."""
    read = reader("map", path)
    return None if value is None else [read(item) for item in need_list("map", value, env)]


def sort_items(value: Value, path: Value = None, *, env: Environment) -> list[Value] | None:
    """Sort by the values at a path, or by the items themselves; equal ones keep their order."""
    read = reader("sort", path)
    if value is None:
        return None
    items = need_list("sort", value, env)
    ranks = [read(item) for item in items]
    check_order("sort", ranks)
    env.spend(len(items) * len(items).bit_length() >> 3)
    return [items[index] for index in sorted(range(len(items)), key=ranks.__getitem__)]


def group_items(value: Value, path: Value, *, env: Environment) -> list[Value] | None:
    """Group items by equal values at a path.

    Each group is a map with `key` and `items`; the groups and their items keep the order of the
    list.
    """
    read = reader("groupby", path)
    if value is None:
        return None
    groups: dict[object, dict[str, Value]] = {}
    for item in need_list("groupby", value, env):
        found = read(item)
        group = groups.setdefault(identity(found, env), {"key": found, "items": []})
        group["items"].append(item)
    return list(groups.values())


def _selection(name: str, *, wanted: bool) -> TypedFilter:
    """Return the filter that keeps the items with the wanted result of a test.

    Its arguments are a path and a value, or a path, the name of a test and a value.
    """

    def selected(path: Value, condition: tuple[Value, ...], compiler: Compile) -> Selected:
        read = reader(name, path)
        test, operand = _condition(name, condition)
        if test == "match":
            operand = compiled(name, operand, compiler)

        def kept(value: Value, env: Environment) -> list[Value] | None:
            passes = TESTS[test](name, operand, env)
            if value is None:
                return None
            return [item for item in need_list(name, value, env) if passes(read(item)) is wanted]

        return kept

    def call(value: Value, path: Value, *condition: Value, env: Environment) -> Value:
        return selected(path, condition, env.pattern)(value, env)

    def prepare(path: Value, *condition: Value, limits: Limits) -> FilterCall:
        kept = selected(path, condition, partial(compile_pattern, limits=limits))
        return lambda value, *_, env: kept(value, env)

    return TypedFilter(call, 2, 3, prepare)


def _condition(name: str, condition: tuple[Value, ...]) -> tuple[str, Value]:
    test, operand = condition if len(condition) == 2 else ("eq", condition[0])
    if kind_of(test) != TEXT or test not in TESTS:
        raise unfit(name, f"one of the tests {', '.join(TESTS)}", test)
    return test, operand


def _equals(_name: str, operand: Value, env: Environment) -> Test:
    wanted = identity(operand, env)
    return lambda value: identity(value, env) == wanted


def _differs(name: str, operand: Value, env: Environment) -> Test:
    equals = _equals(name, operand, env)
    return lambda value: not equals(value)


def _ordered(passes: Callable[[int], bool], name: str, operand: Value, _env: Environment) -> Test:
    def test(value: Value) -> bool:
        if value is None:
            return False
        try:
            return passes(compare(value, operand))
        except TemplateRenderError as error:
            raise TemplateRenderError(f"`{name}` {error.message}") from None

    return test


def _contained(name: str, container: Value, env: Environment) -> Test:
    kind = kind_of(container)
    if kind in (TEXT, MAP):
        return lambda value: kind_of(value) == TEXT and value in container
    if kind != LIST:
        raise unfit(name, "a list, text or map for its test `in`", container)
    known = {identity(item, env) for item in container}
    return lambda value: identity(value, env) in known


def _matching(name: str, pattern: Pattern, env: Environment) -> Test:
    return lambda value: kind_of(value) not in (LIST, MAP) and matches(pattern, value, env=env)


TESTS: Mapping[str, Callable[[str, Value, Environment], Test]] = MappingProxyType(
    {
        "eq": _equals,
        "ne": _differs,
        "lt": partial(_ordered, lambda order: order < 0),
        "le": partial(_ordered, lambda order: order <= 0),
        "gt": partial(_ordered, lambda order: order > 0),
        "ge": partial(_ordered, lambda order: order >= 0),
        "in": _contained,
        "match": _matching,
    }
)
"""The tests of `select` and `reject`, by name; each makes one for the value to compare with."""

SELECT = _selection("select", wanted=True)
"""The items whose value at a path equals another, or passes a test."""
REJECT = _selection("reject", wanted=False)
"""The items that `SELECT` leaves out."""
