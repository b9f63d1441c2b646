"""Rendering of the templates of one step, to values of the types that the keys of a flow need."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from flyteops.engine.context import EvaluationContext
from flyteops.errors import InputError, TemplateError, TemplateRenderError
from flyteops.model import JsonValue
from flyteops.template.runtime import Runtime
from flyteops.template.typed import TypedValue
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import text_of
from flyteops.timeformat import parse_duration, parse_timestamp

Key = str | int | float | bool | None
"""The key of a wait or of a limit."""

KEY_LENGTH = 1024
"""The maximum number of characters of a key."""

SHOWN = 80
"""The maximum number of characters of a value in an error."""

MAX_SECONDS = timedelta(days=3660).total_seconds()

UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors that a template should never raise; if one does, only its own step fails."""


class StepRenderer:
    """Renders the templates of one step for one event, within the budget of the step.

    `key` identifies the step, and with the seed determines its random numbers.
    """

    def __init__(self, ctx: EvaluationContext, key: str) -> None:
        ctx.begin_step(key.encode(), {})
        self._ctx = ctx
        self.scope: dict[str, object] = {}

    def value(self, template: TypedValue, scope: Mapping[str, object] | None = None) -> JsonValue:
        """Return a value with every text rendered; raise `TemplateError`."""
        return self._render(template, self.scope if scope is None else scope, self._ctx.runtime)

    def input(self, template: TypedValue, *, secrets: bool) -> tuple[JsonValue, JsonValue]:
        """Return the input of a command, and the same with masked secrets.

        Only a pack's command has `secrets`: placeholders until the pack gets it.
        """
        if not secrets:
            value = self.value(template)
            return value, value
        masks: dict[str, str] = {}
        runtime = self._ctx.runtime

        def refer(name: str, form: str) -> str:
            assert runtime.secret is not None  # noqa: S101 - the context always has it
            placeholder = runtime.secret(name, form)
            masks[placeholder] = f"secret {name}"
            return placeholder

        self._ctx.is_input = True
        try:
            value = self._render(template, self.scope, runtime._replace(secret=refer))
        finally:
            self._ctx.is_input = False
        return value, _masked(value, masks) if masks else value

    def _render(
        self, template: TypedValue, scope: Mapping[str, object], runtime: Runtime
    ) -> JsonValue:
        try:
            return template.render(scope, runtime)
        except TemplateError:
            raise
        except UNFORESEEN as error:
            raise TemplateRenderError(f"{type(error).__name__}: {error}") from error

    def truth(self, template: TypedValue, place: str) -> bool:
        """Return true or false, which may be given as a text; anything else is an error."""
        value = self.value(template)
        if isinstance(value, str) and value.strip() in {"true", "false"}:
            return value.strip() == "true"
        if not isinstance(value, bool):
            raise TemplateRenderError(f"{place} must give true or false, not {_shown(value)}")
        return value

    def duration(self, template: TypedValue, place: str) -> timedelta:
        """Return a duration: a text such as ``30s``, or a number of seconds."""
        return _duration(self.value(template), place)

    def due(self, template: TypedValue, place: str) -> datetime:
        """Return a time, which may be given as a duration from now; one in the past is now."""
        value, now = self.value(template), self._ctx.now
        if not isinstance(value, str) or "T" not in value:
            return now + _duration(value, place)
        try:
            at = parse_timestamp(value.strip(), place)
        except InputError as error:
            raise TemplateRenderError(error.message) from None
        return now if at is None else max(now, at)

    def key(self, template: TypedValue, place: str) -> Key:
        """Return a key, null included; lists, maps and long texts are errors."""
        value = self.value(template)
        if isinstance(value, list | dict):
            raise TemplateRenderError(
                f"{place} must give a text, a number or a boolean, not {_shown(value)}"
            )
        if isinstance(value, str) and len(value) > KEY_LENGTH:
            raise TemplateRenderError(f"{place} gives more than {KEY_LENGTH} characters")
        return cast("Key", value)

    def text(self, template: TypedValue) -> str:
        """Return the text of a label, as it is printed."""
        return text_of(self.value(template), Environment(self._ctx.runtime))


def _duration(value: JsonValue, place: str) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= MAX_SECONDS:
            return timedelta(seconds=value)
    elif isinstance(value, str):
        try:
            return parse_duration(value.strip())
        except ValueError:
            pass
    raise TemplateRenderError(f"{place} must give a duration such as 30s, not {_shown(value)}")


def _masked(value: JsonValue, masks: Mapping[str, str]) -> JsonValue:
    if isinstance(value, dict):
        return {key: _masked(item, masks) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, masks) for item in value]
    if isinstance(value, str):
        for placeholder, mask in masks.items():
            value = value.replace(placeholder, mask)
    return value


def _shown(value: JsonValue) -> str:
    return repr(value)[:SHOWN]
