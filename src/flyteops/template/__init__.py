"""The template language of flows: text in, compiled template out.

It is the language of existing flow definitions, with identical results: precedence, printing,
comparison and failure are those of the engine they were written for. Everything here is pure: time,
chance and data are arguments (`Runtime`), cost is bounded (`Limits`).
"""

from flyteops.template.application import ValueTemplate, compile_value, resolve
from flyteops.template.budget import Budget
from flyteops.template.event import event_value
from flyteops.template.gotime import Time
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.parser import OutputNode
from flyteops.template.runtime import BARE_RUNTIME, Runtime
from flyteops.template.secret import ABOUT_SECRETS, SECRET_FORMS
from flyteops.template.template import Template
from flyteops.template.template import compile_template as compile  # noqa: A004
from flyteops.template.value import from_json

__all__ = [
    "ABOUT_SECRETS",
    "BARE_RUNTIME",
    "DEFAULT_LIMITS",
    "SECRET_FORMS",
    "Budget",
    "Limits",
    "OutputNode",
    "Runtime",
    "Template",
    "Time",
    "ValueTemplate",
    "compile",
    "compile_value",
    "event_value",
    "from_json",
    "resolve",
]
