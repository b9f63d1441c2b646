"""The `flyte` command: the only place that assembles the parts, and that reads the real environment, clock and terminal."""

from flyteops.cli.root import main

__all__ = ["main"]
