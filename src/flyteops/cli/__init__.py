"""The `flyte` command: the only package that uses the real environment, clock and terminal.

It assembles all other parts.
"""

from flyteops.cli.root import main

__all__ = ["main"]
