"""Secrets in templates: placeholders, never values, which templates could change or compare."""

import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.state import RenderState

PLAIN = "plain"

ABOUT_SECRETS = "a secret can only be used in the input of a command"

SECRET_FORMS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {PLAIN: str, "shellquote": shlex.quote, "urlencode": quote_plus}
)
"""The forms in which a secret's value is inserted.

Unchanged, or as the filter of that name would write it.
"""


def secret_reference(name: str, form: str) -> Callable[[RenderState], Any]:
    """Return an expression that prints the placeholder of a secret in this form."""

    def evaluate(state: RenderState) -> str:
        if state.runtime.secret is None:
            raise TemplateRenderError(ABOUT_SECRETS)
        state.charge(10)
        try:
            return state.runtime.secret(name, form)
        except KeyError:
            raise TemplateAbort(f"cannot find secret name={name}: not found") from None
        except LookupError as error:
            raise TemplateAbort(f"cannot read secret name={name}: {error}") from None

    return evaluate
