"""Advice about Shell commands: text from events in scripts, and quoting that does not protect."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flyteops import template
from flyteops.document import Document, Path
from flyteops.errors import Problem
from flyteops.flow.advice.nested import BUILTINS, EVALUATING, NOTHING, OPAQUE, nested_script
from flyteops.flow.advice.outside import SINGLE_WORDS, Origins, line_and_column, texts
from flyteops.flow.advice.placement import find_unprotected
from flyteops.flow.advice.shell import (
    ANSI,
    ARITHMETIC,
    BACKTICKS,
    COMMENT,
    ESCAPED,
    HERE,
    NESTED,
    PARAMETER,
    PIPED,
    Finding,
)
from flyteops.model import Flow, JsonValue
from flyteops.template.outline import outline

SHELL = "Shell"
"""The name of the command whose input is a script; the pack may have another name."""

HARMLESS = SINGLE_WORDS | {"shellquote", "urlencode"}
"""Filters whose result is a single word for a shell."""

POWERFUL = frozenset(
    # A list takes a line for each.
    """BASH_ENV DYLD_INSERT_LIBRARIES ENV GIT_SSH GIT_SSH_COMMAND IFS LD_AUDIT
    LD_LIBRARY_PATH LD_PRELOAD NODE_OPTIONS PATH PERL5LIB PERL5OPT PROMPT_COMMAND PS4
    PYTHONPATH PYTHONSTARTUP RUBYLIB RUBYOPT SHELLOPTS""".split()  # noqa: SIM905
)
"""Environment variables that decide which programs run."""

_BY_ENV = "hand the value over in 'env' instead, and write \"$NAME\" in the script"


MOST_TEXT = 200_000
"""The maximum number of script characters of a flow that are followed; expressions beyond it are
not checked.
"""


class _Origins(Origins):
    """The values from events, and the number of script characters that may still be followed."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow, HARMLESS)
        self._room = MOST_TEXT

    def unprotected(self, compiled: template.Template) -> dict[int, Finding]:
        """Return the expressions that stand where quoting does not protect."""
        self._room -= len(compiled.source)
        return find_unprotected(outline(compiled)) if self._room >= 0 else {}


def script_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    """Warn about text from events in scripts, programs and their arguments."""
    origins = _Origins(flow)
    for index, step in enumerate(flow.steps):
        if step.command.name == SHELL:
            path: Path = ("steps", index, "command", "input")
            for at, complaint in dict.fromkeys(_of_input(step.command.input, path, origins)):
                yield document.problem(at, complaint)


def _of_input(value: JsonValue, path: Path, origins: _Origins) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield from _of_script(value, path, origins)
    elif isinstance(value, dict):
        script, argv, env, stdin = (value.get(name) for name in ("script", "argv", "env", "stdin"))
        reads_script = False
        if isinstance(script, str):
            yield from _of_script(script, (*path, "script"), origins)
        if isinstance(argv, list):
            yield from _of_types(argv, (*path, "argv"))
            reads_script = yield from _of_arguments(argv, (*path, "argv"), origins)
        if isinstance(env, dict):
            yield from _of_environment(env, (*path, "env"), origins)
        if isinstance(stdin, str):
            check = _of_script if reads_script else _of_plain
            yield from check(stdin, (*path, "stdin"), origins)


# ------------------------------------------------------------------------------------------ scripts


def _of_script(source: str, path: Path, origins: _Origins) -> Iterator[tuple[Path, str]]:
    compiled = template.compile(source)
    if not any(
        origins.prints_outside(compiled, output) or origins.prints_quoted(output)
        for output in compiled.outputs
    ):
        return
    unprotected = origins.unprotected(compiled)
    for output in compiled.outputs:
        finding = unprotected.get(output.start)
        complaint = None
        if origins.prints_outside(compiled, output):
            complaint = _about_raw(output, finding)
        elif finding is not None and origins.prints_quoted(output):
            complaint = _about_place(finding, source)
        if complaint is not None:
            yield path, complaint


def _about_raw(output: template.OutputNode, finding: Finding | None) -> str:
    start = (
        f"{{{{ {output.shown} }}}} becomes part of a script as it is, and may hold commands from"
        " its sender;"
    )
    if finding is not None and finding.place in _NO_QUOTING:
        return f"{start} {_BY_ENV}"
    return f"{start} write {{{{ {output.shown}|shellquote }}}}, without quotes around it"


_NO_QUOTING = frozenset([HERE, NESTED, PIPED, ARITHMETIC, COMMENT, PARAMETER, BACKTICKS])
"""The places where no quoting helps; in others, omitting the quotes does."""


def _about_place(finding: Finding, source: str) -> str | None:
    output = finding.output
    if finding.place == NESTED and _is_quoted_twice(output):
        return None
    shown = f"{{{{ {output.shown} }}}}"
    here, start = line_and_column(source, output.start), line_and_column(source, finding.start)
    match finding.place:
        case place if place == HERE:
            about = (
                f"stands in the here-document that begins in {start}, where its quotes protect"
                " nothing: $(…) in the value would run, or a line of it would end the document;"
                f" {_BY_ENV}"
            )
        case place if place == NESTED and finding.program in EVALUATING:
            about = (
                f"is calculated by `{finding.program}`, which runs commands that stand in it; write"
                " |integer for a number, and no text from an event for the name of a variable"
            )
        case place if place == NESTED:
            about = (
                f"becomes part of a script that `{finding.program}` runs: its quotes are gone by"
                f" then, and commands in the value would run; {_instead(finding.program)}"
            )
        case place if place == PIPED:
            about = (
                f"reaches `{finding.program}` as part of a script that it reads, where $(…) in the"
                f" value would run; {_BY_ENV}"
            )
        case place if place == ARITHMETIC:
            about = (
                f"stands in the arithmetic that begins in {start}, where $(…) in the value would"
                " run; write |integer"
            )
        case place if place in (ESCAPED, ANSI) and finding.start == output.start:
            about = (
                "stands behind a backslash or a dollar sign, which changes what its quotes mean;"
                " put a blank between them"
            )
        case place:
            about = _in_quotes(place, start, finding.program)
    return f"{shown} {about} (it stands in {here} of the script)"


def _instead(program: str) -> str:
    if program in ("ssh", "autossh", "rsh", "slogin"):
        return "quote it for the other shell as well, outside of quotes: |shellquote|shellquote"
    if program in ("sh", "bash", "dash", "ash", "zsh", "ksh"):
        return (
            f"hand it over as an argument: {program} -c 'echo \"$1\"' {program} {{{{ …|shellquote"
            " }}"
        )
    if program in ("sed", "gsed"):
        return "with --sandbox, `sed` runs none and reads and writes no files"
    if program == "env":
        return "leave out -S, and hand over each argument by itself"
    return _BY_ENV


def _in_quotes(place: str, start: str, program: str) -> str:
    if place in _PARTS:
        return f"stands in the {place} in {start}, {_PARTS[place]}"
    about = f"brings its own quotes, and stands in the {place} that begin in {start}:"
    if program:
        return (
            f"{about} `{program}` runs them as a script, and $(…) in the value with it;"
            f" {_instead(program)}"
        )
    return (
        f"{about} they end each other, and $(…) in the value would run; end those quotes before it"
        f" and begin them again after it, or {_BY_ENV}"
    )


_PARTS = {
    BACKTICKS: "where ` in the value ends them; write $(…) instead of `…`",
    COMMENT: "which ends at a line break in the value; take it out of the comment",
    PARAMETER: f"where its quotes may protect nothing; {_BY_ENV}",
}


def _is_quoted_twice(output: template.OutputNode) -> bool:
    return "".join(output.shown.split()).endswith("|shellquote|shellquote")


# --------------------------------------------------------------------------- programs and variables


def _of_types(argv: Sequence[JsonValue], path: Path) -> Iterator[tuple[Path, str]]:
    for index, argument in enumerate(argv):
        if not isinstance(argument, str):
            yield (*path, index), "an argument must be text; put it in quotes"


@dataclass(frozen=True, slots=True)
class _Argument:
    path: Path
    source: str
    compiled: template.Template

    @property
    def word(self) -> str:
        """Return the text with a mark at each output."""
        return OPAQUE if self.compiled.outputs and not self.compiled.constant else self.source


def _of_arguments(
    argv: Sequence[JsonValue], path: Path, origins: _Origins
) -> Generator[tuple[Path, str], None, bool]:
    """Yield complaints; return whether the program reads a script from its standard input."""
    arguments = [
        _Argument((*path, index), text, template.compile(text))
        for index, text in enumerate(argv)
        if isinstance(text, str)
    ]
    nested = nested_script([argument.word for argument in arguments])
    if nested.program in EVALUATING | BUILTINS:
        nested = NOTHING  # no shell reads these arguments, and programs of these names do not
    for index, argument in enumerate(arguments):
        if index in nested.words:
            yield from _of_nested(nested.program, argument, origins)
        else:
            yield from _of_plain(argument.source, argument.path, origins)
        if index == 0:
            yield from _of_program(argument, origins)
    return nested.reads_script


def _of_nested(program: str, argument: _Argument, origins: _Origins) -> Iterator[tuple[Path, str]]:
    """Check an argument that is a script of a shell, or of a program with other quoting."""
    if program in _LIKE_SHELLS:
        yield from _of_script(argument.source, argument.path, origins)
        return
    for output in argument.compiled.outputs:
        if origins.prints_outside(argument.compiled, output) or origins.prints_quoted(output):
            yield (
                argument.path,
                (
                    f"{{{{ {output.shown} }}}} becomes part of a program that `{program}` runs, for"
                    " which there is no quoting filter; hand the value over as an argument behind"
                    " the program, or in 'env'"
                ),
            )


_LIKE_SHELLS = frozenset(
    """ash autossh bash busybox dash eval flock ksh mksh parallel rbash rsh runuser
    script sh slogin ssh su trap watch zsh""".split()  # noqa: SIM905 - a list takes a line for each
)


def _of_program(argument: _Argument, origins: _Origins) -> Iterator[tuple[Path, str]]:
    for output in argument.compiled.outputs:
        if origins.prints_outside(argument.compiled, output):
            yield (
                argument.path,
                (
                    f"{{{{ {output.shown} }}}} lets the sender choose which program runs; name the"
                    " program"
                ),
            )


def _of_plain(source: str, path: Path, origins: _Origins) -> Iterator[tuple[Path, str]]:
    for output in template.compile(source).outputs:
        if origins.prints_quoted(output):
            yield (
                path,
                (
                    f"{{{{ {output.shown} }}}} is quoted for a shell, but no shell reads it here:"
                    " the quotes become part of the value; leave out shellquote"
                ),
            )


def _of_environment(
    env: Mapping[str, JsonValue], path: Path, origins: _Origins
) -> Iterator[tuple[Path, str]]:
    for name, value in env.items():
        for at, source in texts(value, (*path, name)):
            compiled = template.compile(source)
            yield from _of_plain(source, at, origins)
            if name in POWERFUL and any(
                origins.prints_outside(compiled, output) for output in compiled.outputs
            ):
                yield (
                    at,
                    (
                        f"{name} decides which programs run; a value from an event lets its sender"
                        " choose them"
                    ),
                )
