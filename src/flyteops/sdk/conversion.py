"""Conversion between plain JSON values and the types of pack authors.

These are the types known to msgspec, and models of pydantic if the pack depends on it.
"""

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Protocol, TypeGuard, cast

import msgspec
import msgspec.inspect

from flyteops.sdk.function import unknown_name

_TEXT_TYPES: dict[type, tuple[str, str | None]] = {
    PurePath: ("a path", None),
    ipaddress.IPv4Address: ("an IPv4 address such as 192.0.2.1", "ipv4"),
    ipaddress.IPv6Address: ("an IPv6 address such as 2001:db8::1", "ipv6"),
    ipaddress.IPv4Network: ("an IPv4 network such as 192.0.2.0/24", None),
    ipaddress.IPv6Network: ("an IPv6 network such as 2001:db8::/32", None),
    ipaddress.IPv4Interface: ("an IPv4 interface such as 192.0.2.1/24", None),
    ipaddress.IPv6Interface: ("an IPv6 interface such as 2001:db8::1/32", None),
}
"""Classes whose instances are text in JSON, with their description and format in JSON Schema."""

_NO_KEYS = (
    msgspec.inspect.CollectionType,
    msgspec.inspect.TupleType,
    msgspec.inspect.DictType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.NamedTupleType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.StructType,
)
"""The types of values that are lists or objects in JSON, which cannot be keys there."""


_MUTABLE: dict[type, str] = {
    msgspec.inspect.ListType: "list",
    msgspec.inspect.SetType: "set",
    msgspec.inspect.DictType: "dict",
    msgspec.inspect.ByteArrayType: "bytearray",
}
"""The descriptions of built-in types without hashes, with their names."""


class Model(Protocol):
    """A model of pydantic, as far as it is used."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        """Return its JSON Schema."""
        ...

    @classmethod
    def model_validate(cls, value: object, /) -> object:
        """Read a value."""
        ...

    def model_dump(self, *, mode: str, by_alias: bool) -> object:
        """Return its value."""
        ...


def is_model(kind: object) -> TypeGuard[type[Model]]:
    """Return whether a type is a model of pydantic.

    It is recognized by its interface, without an import.
    """
    return isinstance(kind, type) and callable(getattr(kind, "model_validate", None))


def convert(value: object, kind: object, *, strict: bool = False) -> object:
    """Convert a value to a type; raise `msgspec.ValidationError`.

    Unless it is `strict`, text may stand for a number, a boolean or null, because a template in a
    flow always renders text (the number 3 as `3.000000`).
    """
    if kind is Any:
        return value
    return msgspec.convert(value, kind, strict=strict, dec_hook=_read_other)


def check_type(kind: object) -> None:
    """Raise `TypeError` for a type that no value can be converted to, also inside another type."""
    try:
        found = msgspec.inspect.type_info(kind)
        msgspec.json.Decoder(kind, dec_hook=_read_other)
    except NameError as error:
        raise TypeError(
            unknown_name(f"{getattr(kind, '__name__', kind)} has a field", error)
        ) from error
    parts = list(_parts(found, set()))
    for part in parts:
        _check_hashable(part)
    for each in (part.cls for part in parts if isinstance(part, msgspec.inspect.CustomType)):
        if not is_model(each) and _text_type(each) is None:
            message = (
                f"{getattr(each, '__name__', each)} cannot be read from JSON; use a type that"
                " msgspec knows, a dataclass, Struct, TypedDict or pydantic model, or Any for"
                " plain JSON"
            )
            raise TypeError(message)


def _parts(found: object, seen: set[int]) -> Iterator[msgspec.inspect.Type]:
    """Yield msgspec's description of a type, and those of the types inside it.

    The type may contain itself.
    """
    if id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, tuple):
        for each in found:
            yield from _parts(each, seen)
    elif isinstance(found, msgspec.inspect.Type | msgspec.inspect.Field):
        if isinstance(found, msgspec.inspect.Type):
            yield found
        for name in found.__struct_fields__:
            if name not in ("default", "default_factory", "extra", "extra_json_schema"):
                yield from _parts(getattr(found, name), seen)


def _check_hashable(part: msgspec.inspect.Type) -> None:
    """Raise `TypeError` for elements of a set that have no hash, and for keys that JSON lacks."""
    if isinstance(part, msgspec.inspect.SetType | msgspec.inspect.FrozenSetType):
        wrong = _unhashable(part.item_type)
        if wrong is not None:
            message = f"a set cannot have elements of the type {wrong}; use a list"
            raise TypeError(message)
    if isinstance(part, msgspec.inspect.DictType) and isinstance(part.key_type, _NO_KEYS):
        message = (
            "the keys of an object in JSON are text; use a dict whose keys are text or numbers"
        )
        raise TypeError(message)


def _unhashable(part: object) -> str | None:
    """Return the name of a type without hashes, of those that a value of the type consists of."""
    if type(part) in _MUTABLE:
        return _MUTABLE[type(part)]
    kind = getattr(part, "cls", None)
    if kind is not None and not isinstance(part, msgspec.inspect.NamedTupleType):
        return None if _has_hash(kind) else kind.__name__
    inner = (
        getattr(part, name, ()) for name in ("type", "item_type", "item_types", "types", "fields")
    )
    parts = (each for found in inner for each in (found if isinstance(found, tuple) else (found,)))
    return next(filter(None, map(_unhashable, parts)), None)


def _has_hash(kind: type) -> bool:
    if issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        return config.frozen or not config.eq
    return kind.__hash__ is not None


def plain(value: object) -> object:
    """Return a value in JSON form; raise `ValueError` if it cannot be written so."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_write_other))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def schema(kind: object) -> dict[str, Any] | None:
    """Return a type as JSON Schema; None if it has no useful description."""
    if kind is Any:
        return None
    inner: dict[str, Any] = {}

    def describe(model: type) -> dict[str, Any]:
        text_type = _text_type(model)
        if text_type is not None:
            return {"type": "string"} | ({} if text_type[1] is None else {"format": text_type[1]})
        if not is_model(model):
            raise NotImplementedError
        described: dict[str, Any] = model.model_json_schema()
        inner.update(described.pop("$defs", {}))
        return described

    try:
        described = msgspec.json.schema(kind, schema_hook=describe)
    except TypeError:  # some types can be read and written, but not described
        return None
    if inner:
        described["$defs"] = described.get("$defs", {}) | inner
    return described


def _text_type(kind: object) -> tuple[str, str | None] | None:
    if not isinstance(kind, type):
        return None
    return next((_TEXT_TYPES[each] for each in kind.__mro__ if each in _TEXT_TYPES), None)


def _read_text(kind: Callable[[str], object], value: object, described: str) -> object:
    if isinstance(value, str) and value:  # an empty path would be the current directory
        try:
            return kind(value)
        except ValueError:
            pass
    message = f"must be {described}"  # omits the value, which may be secret
    raise ValueError(message)


def _read_other(kind: type, value: object) -> object:
    text_type = _text_type(kind)
    if text_type is not None:
        return _read_text(kind, value, text_type[0])
    if not is_model(kind):
        message = f"there is no way to read a value of the type {getattr(kind, '__name__', kind)}"
        raise TypeError(message)
    return kind.model_validate(value)


def _write_other(value: object) -> object:
    if _text_type(type(value)) is not None:
        return str(value)
    if not is_model(type(value)):
        message = f"there is no way to write a value of the type {type(value).__name__}"
        raise TypeError(message)
    return cast("Model", value).model_dump(mode="json", by_alias=True)
