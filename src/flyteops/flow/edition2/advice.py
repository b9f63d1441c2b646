"""Advice about flows of edition 2 that are valid and probably not as intended."""

from collections.abc import Sequence
from flyteops.definition import FlowDefinition
from flyteops.document import Document
from flyteops.errors import Problem


def lint_definition(document: Document, flow: FlowDefinition) -> Sequence[Problem]:
    """Return advice."""
    return []
