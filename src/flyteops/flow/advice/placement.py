"""The positions of a template's expressions in a shell script.

Each branch is followed, and loops twice.
"""

from collections.abc import Iterable, Iterator

from flyteops.flow.advice.shell import NESTED, Finding, Shell
from flyteops.template.outline import Choice, Loop, Macro, Outline, Piece, Printed, Text

MAX_STATES = 6
"""The maximum number of lexer states that are followed at the same time."""

MAX_LOOPS = 3
"""The maximum depth of loops whose bodies are followed twice."""


def find_unprotected(script: Outline) -> dict[int, Finding]:
    """Return the expressions whose value would be unsafe even if quoted, by their position."""
    walk = _Walk()
    for shell in walk.follow(script, [Shell(walk.report)]):
        shell.close()
    return walk.found


class _Walk:
    """Follow the branches and loops of a template."""

    def __init__(self) -> None:
        self.found: dict[int, Finding] = {}
        self._loops = 0

    def report(self, finding: Finding) -> None:
        """Keep a finding; the first about an expression counts, a later one may add the program."""
        known = self.found.setdefault(finding.output.start, finding)
        if finding.place == NESTED and not known.program:
            self.found[finding.output.start] = known._replace(program=finding.program)

    def follow(self, pieces: Outline, shells: list[Shell]) -> list[Shell]:
        """Return the states after the pieces; each piece continues from every state before it."""
        for piece in pieces:
            shells = _distinct(self._after(piece, shells))
        return shells

    def _after(self, piece: Piece, shells: list[Shell]) -> Iterator[Shell]:
        match piece:
            case Text():
                for shell in shells:
                    shell.read(piece.text, piece.start)
                yield from shells
            case Printed():
                for shell in shells:
                    shell.print(piece.output)
                yield from shells
            case Choice():
                for body in piece.bodies:
                    yield from self.follow(body, _forks(shells))
            case Loop():
                yield from self.follow(piece.otherwise, _forks(shells))
                yield from self._repeated(piece.body, shells)
            case Macro():
                for shell in self.follow(piece.body, [Shell(self.report)]):
                    shell.close()
                yield from shells

    def _repeated(self, body: Outline, shells: list[Shell]) -> Iterator[Shell]:
        self._loops += 1
        once = self.follow(body, shells)
        yield from _forks(once)
        if self._loops <= MAX_LOOPS:
            yield from self.follow(body, once)
        self._loops -= 1


def _forks(shells: list[Shell]) -> list[Shell]:
    return [shell.fork() for shell in shells]


def _distinct(shells: Iterable[Shell]) -> list[Shell]:
    """Return at most the number of states that are followed, preferably in different places."""
    states = list(shells)
    if len(states) > 1:
        states = list(
            {
                (shell.pending, *(frame.key() for frame in shell.frames)): shell for shell in states
            }.values()
        )
    if len(states) <= MAX_STATES:
        return states
    firsts = {shell.place: shell for shell in reversed(states)}
    others = [shell for shell in states if firsts[shell.place] is not shell]
    return [*firsts.values(), *others][:MAX_STATES]
