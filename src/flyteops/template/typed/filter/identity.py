"""Keys for the equality of values."""

from collections.abc import Hashable

from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import LIST, MAP, TEXT, Value, kind_of


def identity(value: Value, env: Environment) -> Hashable:
    """Return a key that two values share if and only if they are `equal`.

    1 equals 1.0, but not true; lists and maps are compared deeply.
    """
    kind = kind_of(value)
    env.spend(1 + (len(value) >> 8) if kind == TEXT else 1)
    if kind == MAP:
        return kind, frozenset((key, identity(item, env)) for key, item in value.items())
    if kind == LIST:
        return kind, tuple(identity(item, env) for item in value)
    return kind, value
