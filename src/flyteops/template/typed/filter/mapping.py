"""Filters of maps; their order is the one of the keys."""

from flyteops.template.casing import SPACES
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.operand import need_map, need_text, printed
from flyteops.template.typed.value import Value, entries


def _entries(name: str, value: Value, env: Environment) -> list[tuple[str, Value]]:
    mapping = need_map(name, value)
    env.check_count(len(mapping))
    return entries(mapping)


def keys(value: Value, *, env: Environment) -> list[str] | None:
    """Return the keys of a map."""
    return None if value is None else [name for name, _ in _entries("keys", value, env)]


def values(value: Value, *, env: Environment) -> list[Value] | None:
    """Return the values of a map."""
    return None if value is None else [item for _, item in _entries("values", value, env)]


def items(value: Value, *, env: Environment) -> list[dict[str, Value]] | None:
    """Return the entries of a map, each a map with `key` and `value`."""
    if value is None:
        return None
    return [{"key": name, "value": item} for name, item in _entries("items", value, env)]


def key(value: Value, name: Value, *, env: Environment) -> Value:
    """Return a map's value under a key; null when it is missing."""
    wanted = need_text("key", name)
    env.spend(1)
    return None if value is None else need_map("key", value).get(wanted)


def kvp(value: Value, *, env: Environment) -> dict[str, str] | None:
    """Read text such as ``a=1, b=2`` as a map; a part without exactly one `=` is left out."""
    if value is None:
        return None
    string = printed("kvp", value, env)
    env.check_count(string.count(",") + 1)
    pairs = (part.split("=") for part in string.split(","))
    return {pair[0].strip(SPACES): pair[1].strip(SPACES) for pair in pairs if len(pair) == 2}
