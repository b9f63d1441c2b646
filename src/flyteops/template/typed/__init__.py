"""The template language of flows of edition 2, whose values have types.

Everything here is pure: time, chance and data are arguments (`Runtime`), cost is bounded
(`Limits`).
"""

from flyteops.template.typed.application import TypedValue, compile_typed_value
from flyteops.template.typed.template import TypedTemplate, compile_typed
from flyteops.template.typed.value import Value, to_json

__all__ = [
    "TypedTemplate",
    "TypedValue",
    "Value",
    "compile_typed",
    "compile_typed_value",
    "to_json",
]
