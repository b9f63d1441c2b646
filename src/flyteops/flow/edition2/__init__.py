"""Strict reading of flow files of edition 2: every problem with its place, and advice."""

from flyteops.flow.edition2.advice import lint_definition
from flyteops.flow.edition2.reader import read_definition

__all__ = ["lint_definition", "read_definition"]
