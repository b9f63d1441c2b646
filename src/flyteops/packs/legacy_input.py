"""The reading of inputs in the way of the original packs."""

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def read_input(raw: object, kind: type[T]) -> T:
    """Read an input as the original packs do: keys in any case, and null as an empty object.

    Text that spells a number or a boolean is converted where one is expected, because templates
    render text.
    """
    if not isinstance(raw, dict):
        return msgspec.convert({} if raw is None else raw, kind)
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    return msgspec.convert(
        {names.get(key.lower(), key): value for key, value in raw.items()}, kind, strict=False
    )
