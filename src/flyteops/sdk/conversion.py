"""Plain JSON values and the types of pack authors: what msgspec knows, and models of pydantic where somebody else brings it."""

from typing import Any

import msgspec


def is_model(kind: Any) -> bool:
    """Tell whether a type is a model of pydantic, which is asked for by its manner, so that it need not be there."""
    return isinstance(kind, type) and callable(getattr(kind, "model_validate", None))


def convert(value: Any, kind: Any, *, strict: bool = False) -> Any:
    """Make a value of a type; raise `msgspec.ValidationError`.

    Unless it is `strict`, text may stand for a number, a boolean or null, because a template in a flow always renders text
    (the number 3 as `3.000000`).
    """
    if kind is Any:
        return value
    return msgspec.convert(value, kind, strict=strict, dec_hook=_read_model)


def check_type(kind: Any) -> None:
    """Raise `TypeError` for a type that nothing can be converted to."""
    msgspec.json.Decoder(kind, dec_hook=_read_model)


def plain(value: Any) -> Any:
    """Return what a value looks like as JSON; raise `ValueError` if it cannot be written so."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_write_model))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def schema(kind: Any) -> dict[str, Any] | None:
    """Describe a type as JSON Schema; None when there is nothing to say about it."""
    if kind is Any:
        return None
    inner: dict[str, Any] = {}

    def describe(model: Any) -> dict[str, Any]:
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


def _read_model(kind: Any, value: Any) -> Any:
    if not is_model(kind):
        message = f"there is no way to read a value of the type {getattr(kind, '__name__', kind)}"
        raise TypeError(message)
    return kind.model_validate(value)


def _write_model(value: Any) -> Any:
    if not is_model(type(value)):
        message = f"there is no way to write a value of the type {type(value).__name__}"
        raise TypeError(message)
    return value.model_dump(mode="json", by_alias=True)
