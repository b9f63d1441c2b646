"""Inspection of the functions of pack authors, for any kind of callable."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function.

    Of a `partial`, it is that of its target, and of a callable instance that of its class.
    """
    if isinstance(function, functools.partial):
        return function_name(function.func)
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def full_name(function: Callable[..., Any]) -> str:
    """Return the name of a function with those of the classes and functions around it."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else function_name(function)


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call certainly returns an awaitable, and does not block."""
    return _is(inspect.iscoroutinefunction, function)


def wraps_async(function: Callable[..., Any]) -> bool:
    """Return whether a function is an `async def`, or was made from one with `functools.wraps`."""
    return _is(inspect.iscoroutinefunction, function) or _is(
        inspect.iscoroutinefunction, _innermost(function)
    )


def wraps_async_generator(function: Callable[..., Any]) -> bool:
    """Return whether a function is an async generator function.

    One made from such a function with `functools.wraps` counts as well.
    """
    return _is(inspect.isasyncgenfunction, function) or _is(
        inspect.isasyncgenfunction, _innermost(function)
    )


def is_generator(function: Callable[..., Any]) -> bool:
    """Return whether a function yields."""
    return wraps_async_generator(function) or _is(inspect.isgeneratorfunction, function)


def as_coroutine_function(function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """Return a coroutine function that calls in the event loop, and awaits an awaitable result."""
    if inspect.iscoroutinefunction(function):
        return function

    async def run() -> object:
        result = function()
        return await result if inspect.isawaitable(result) else result

    run.__qualname__ = full_name(function)
    return run


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return parameters and result of a function with their types.

    Arguments that a `partial` binds by name are left out. Raise `TypeError` for annotations that
    have no meaning at run time.
    """
    try:
        found = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise TypeError(unknown_name(f"{full_name(function)} is annotated", error)) from error
    except Exception as error:  # annotations are third-party code
        message = f"the parameters of {full_name(function)} cannot be read: {error}"
        raise TypeError(message) from error
    bound = _bound(function)
    return found.replace(
        parameters=[each for each in found.parameters.values() if each.name not in bound]
    )


def type_hints(kind: object) -> dict[str, Any]:
    """Return the types of the fields of a class.

    Raise `TypeError` for names that have no meaning at run time.
    """
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise TypeError(
            unknown_name(f"{getattr(kind, '__name__', kind)} is annotated", error)
        ) from error


def unknown_name(what: str, error: NameError) -> str:
    """Return the message for a name that is missing when an annotation is read."""
    return (
        f"{what} with a name that its module does not know ({error}): define it at the top of the"
        " module, or import it there, and not under `if TYPE_CHECKING:`"
    )


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside partials and wrappers."""
    while True:
        inner: Callable[..., Any] = inspect.unwrap(function)
        if not isinstance(inner, functools.partial):
            return inner
        function = inner.func


def _is(test: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    inner = function.func if isinstance(function, functools.partial) else function
    # The method, for callable instances.
    return test(function) or test(getattr(inner, "__call__", None))  # noqa: B004


def _bound(function: Callable[..., Any]) -> set[str]:
    if not isinstance(function, functools.partial):
        return set()
    return set(function.keywords) | _bound(function.func)
