"""The problems and warnings of a flow file as lines for a terminal."""

from collections.abc import Iterator, Sequence

import click

from flyteops.cli.excerpt import Excerpts
from flyteops.cli.output import clean, dim
from flyteops.cli.source import FlowSource, format_problem
from flyteops.errors import Problem


def complaints(
    source: FlowSource, problems: Sequence[Problem], warnings: Sequence[Problem]
) -> Iterator[str]:
    """Yield the problems and warnings, each with its line in the file."""
    excerpts = Excerpts(source.content)
    warning = click.style("(warning)", fg="yellow")
    marked = [(problem, "") for problem in problems] + [(each, f" {warning}") for each in warnings]
    for problem, mark in sorted(marked, key=lambda each: (each[0].line or 0, each[0].column or 0)):
        yield f"{clean(format_problem(source.file, problem))}{mark}"
        for line in excerpts.of(problem):
            yield f"    {dim(line)}"
