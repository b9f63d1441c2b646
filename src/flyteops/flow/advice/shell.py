"""A lexer of shell scripts that follows quotes, and reports the place of each printed expression.

It knows as much of the shell language as affects quoting: quotes, escapes, comments, substitutions,
here-documents, and the ends of commands and pipelines.
"""

import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from flyteops.flow.advice.nested import OPAQUE, PROCESS, command_start, nested_script
from flyteops.template import OutputNode

MOST_PARTS = 100
"""The maximum depth of nested quotes and substitutions; deeper ones are not followed."""

MAX_WORDS = 100
"""The number of words of a command, and of characters of each word, that are kept."""

# The kinds of parts of a script; the names appear in messages.
COMMANDS, SUBSTITUTION, BACKTICKS, SUBSHELL = "script", "$( )", "backticks", "( )"
SINGLE, DOUBLE, ANSI = "single quotes", "double quotes", "$'…' quotes"
PARAMETER, ARITHMETIC, HERE, COMMENT = "${…}", "arithmetic", "here-document", "comment"
ESCAPED, NESTED, PIPED = "backslash", "nested", "piped"

_LISTS = frozenset([COMMANDS, SUBSTITUTION, BACKTICKS, SUBSHELL])
_BARE = re.compile(r"[^\s\\'\"$`()<>|&;#]+")
_IN_DOUBLE = re.compile(r"[^\\\"$`]+")
_IN_PARAMETER = re.compile(r"[^\\'\"$`}]+")
_IN_ANSI = re.compile(r"(?:[^\\']|\\.)*", re.DOTALL)
_IN_HERE = re.compile(r"\$\(|`")
_REDIRECTION = re.compile(r"<<<|<<-|<<|[<>]\(|<&|<>|<|>>|>\||>&|>")
_IN_ARITHMETIC = re.compile(r"[^()$`\\]+")
_OPENERS = frozenset(["{", "if", "while", "until", "for", "case", "select"])
_CLOSERS = frozenset(["}", "fi", "done", "esac"])
_DEFINITION = re.compile(r"\(\s*\)\s*")
_IN_BRACKETS = re.compile(r"[^\[\]$`\\]+")


class Finding(NamedTuple):
    """An expression where quoting does not protect, in a part of the kind `place` from `start` on.

    `program` is the command that runs it as a script of its own.
    """

    output: OutputNode
    place: str
    start: int
    program: str = ""


@dataclass(slots=True)
class _Word:
    text: str = ""
    is_quoted: bool = False
    outputs: tuple[OutputNode, ...] = ()


@dataclass(frozen=True, slots=True)
class _Here:
    delimiter: str
    strips_tabs: bool
    is_quoted: bool


@dataclass(slots=True)
class _Frame:
    """An open part of the script.

    Only parts that contain commands use the fields from `words` to `heres`.
    """

    kind: str
    start: int
    words: tuple[_Word, ...] = ()
    digest: int = 0
    word: _Word | None = None
    expects: str = ""
    piped: tuple[OutputNode, ...] = ()
    is_piping: bool = False
    heres: tuple[_Here, ...] = ()
    here: _Here | None = None
    line: str = ""
    depth: int = 0
    closer: str = ")"
    groups: tuple[tuple[OutputNode, ...], ...] = ()

    def key(self) -> tuple[object, ...]:
        """Return the key of the state; parts with the same key are read alike."""
        word = "" if self.word is None else self.word.text
        return (
            self.kind,
            self.digest,
            word,
            self.expects,
            len(self.piped),
            self.heres,
            self.line,
            self.depth,
            self.closer,
            tuple(map(len, self.groups)),
        )

    def grouped(
        self, words: Sequence[str], carried: tuple[OutputNode, ...]
    ) -> tuple[OutputNode, ...]:
        """Return the output of a command; at the end of a group, that of all its commands."""
        if words and words[0] in _CLOSERS and self.groups:
            *outer, group = self.groups
            self.groups, carried = tuple(outer), group + carried
        for word in words[: command_start(words) + 1]:
            if word in _OPENERS and len(self.groups) < MOST_PARTS:
                self.groups = (*self.groups, ())
        if carried and self.groups:
            *outer, group = self.groups
            self.groups = (*outer, group + carried)
        return carried


class Shell:
    """The state of the lexer after a part of the script."""

    def __init__(self, report: Callable[[Finding], None]) -> None:
        self._report = report
        self.frames = [_Frame(COMMANDS, 0)]
        self.pending = ""

    def fork(self) -> "Shell":
        other = copy(self)
        other.frames = [copy(frame) for frame in self.frames]
        for frame in other.frames:
            frame.word = copy(frame.word)
        return other

    @property
    def place(self) -> tuple[str, ...]:
        """Return the kinds of the open parts, from the outermost to the innermost."""
        return (self.pending, *(frame.kind for frame in self.frames))

    @property
    def top(self) -> _Frame:
        return self.frames[-1]

    @property
    def list(self) -> _Frame:
        """Return the innermost part that contains commands."""
        return next(frame for frame in reversed(self.frames) if frame.kind in _LISTS)

    # ----------------------------------------------------------------------------------------- text

    def read(self, text: str, start: int) -> None:
        """Continue with literal text, which begins at `start` in the source."""
        if self.pending:
            text, start, self.pending = self.pending + text, start - len(self.pending), ""
        at = 0
        while at < len(text):
            at = _READERS[self.top.kind](self, text, at, start)

    def add(self, text: str, *outputs: OutputNode, is_quoted: bool = False) -> None:
        """Add text to the current word; here-documents have none."""
        frame = next(
            frame for frame in reversed(self.frames) if frame.kind in _LISTS or frame.kind == HERE
        )
        if frame.kind == HERE:
            return
        word = frame.word = frame.word or _Word()
        if len(word.text) < MAX_WORDS:
            word.text += text
        word.is_quoted = word.is_quoted or is_quoted
        word.outputs += outputs

    def push(self, kind: str, start: int, *, closer: str = ")") -> None:
        if len(self.frames) < MOST_PARTS:
            self.frames.append(_Frame(kind, start, closer=closer))

    def print(self, output: OutputNode) -> None:
        """Continue after an expression."""
        top, pending, self.pending = self.top, self.pending, ""
        ticks = next((frame for frame in self.frames if frame.kind == BACKTICKS), None)
        if pending:
            self._report(Finding(output, ANSI if pending == "$" else ESCAPED, output.start))
        elif top.kind not in _LISTS:
            self._report(Finding(output, top.kind, top.start))
        elif ticks is not None:
            self._report(Finding(output, BACKTICKS, ticks.start))
        if top.kind == HERE:
            top.line += OPAQUE
        elif top.kind != COMMENT:
            self.add(pending + OPAQUE, output)

    # ------------------------------------------------------------------------------------- commands

    def end_word(self) -> None:
        frame = self.list
        word, frame.word = frame.word, None
        if word is None:
            return
        expects, frame.expects = frame.expects, ""
        if expects in ("<<", "<<-"):
            frame.heres = (
                *frame.heres[:MOST_PARTS],
                _Here(word.text, expects == "<<-", word.is_quoted),
            )
        elif expects == "<<<" or (expects == "<" and PROCESS in word.text):
            frame.piped = (*frame.piped, *word.outputs)
        elif not expects:
            frame.words = (*frame.words[:MAX_WORDS], word)
            frame.digest = hash((frame.digest, word.text))

    def end_command(self, *, goes_on: bool = False) -> None:
        """End a command; with `goes_on`, the next one reads its output."""
        self.end_word()
        frame = self.list
        words, frame.words, frame.digest = frame.words, (), 0
        nested = nested_script([word.text for word in words])
        for at in nested.words:
            for output in words[at].outputs:
                self._report(Finding(output, NESTED, output.start, nested.program))
        for output in frame.piped if nested.reads_script else ():
            self._report(Finding(output, PIPED, output.start, nested.program))
        carried = tuple(each for word in words for each in word.outputs)
        carried = frame.grouped([word.text for word in words], carried)
        frame.piped = (*frame.piped, *carried) if goes_on else ()
        frame.is_piping, frame.expects = goes_on, ""
        self._hand_up(frame.kind, carried)

    def _hand_up(self, kind: str, carried: tuple[OutputNode, ...]) -> None:
        """Add the output of a substitution to its word, and of a subshell to its pipeline."""
        _, *outer_lists = [frame for frame in reversed(self.frames) if frame.kind in _LISTS]
        if not outer_lists:
            return
        outer = outer_lists[0]
        if kind == SUBSHELL:
            outer.piped = (*outer.piped, *carried)
        elif outer.word is not None:
            outer.word.outputs = (*outer.word.outputs, *carried)

    def begin_heres(self, at: int) -> None:
        frame = self.list
        heres, frame.heres = frame.heres, ()
        for here in reversed(heres):
            self.frames.append(_Frame(HERE, at, here=here))

    def close(self) -> None:
        """End the script."""
        while True:
            if self.top.kind in _LISTS:
                self.end_command()
            if len(self.frames) == 1:
                return
            self.frames.pop()


# -------------------------------------------------------------------------------- parts of a script


def _read_commands(shell: Shell, text: str, at: int, start: int) -> int:
    plain = _BARE.match(text, at)
    if plain is not None:
        shell.add(plain[0])
        return plain.end()
    character = text[at]
    if character in "\\'\"$`":
        return _read_quoting(shell, text, at, start)
    if character == "#":
        if shell.list.word is None:
            shell.push(COMMENT, start + at)
        else:
            shell.add("#")
        return at + 1
    if character in "<>":
        return _read_redirection(shell, text, at, start)
    if character in "()":
        return _read_parenthesis(shell, text, at, start)
    return _read_separator(shell, text, at, start)


def _read_quoting(shell: Shell, text: str, at: int, start: int) -> int:
    """Read a quote or substitution among commands or, for most kinds, in double quotes."""
    character = text[at]
    if character == "\\":
        return _read_escape(shell, text, at, start)
    if character in "'\"":
        shell.add("", is_quoted=True)
        shell.push(SINGLE if character == "'" else DOUBLE, start + at)
        return at + 1
    if character == "`":
        _read_backtick(shell, start + at)
        return at + 1
    return _read_dollar(shell, text, at, start)


def _read_escape(shell: Shell, text: str, at: int, start: int) -> int:
    if at + 1 == len(text):
        shell.pending = "\\"
    elif text[at + 1] != "\n":
        shell.add(text[at + 1], is_quoted=True)
    return at + 2


def _read_dollar(shell: Shell, text: str, at: int, start: int) -> int:
    after = text[at + 1 : at + 2]
    is_bare = shell.top.kind in _LISTS
    if not after:
        if is_bare:
            shell.pending = "$"
        return at + 1
    shell.add(OPAQUE if after in "({[" else "$")
    if after == "(":
        is_sum = text.startswith("((", at + 1)
        shell.push(ARITHMETIC if is_sum else SUBSTITUTION, start + at)
        return at + (3 if is_sum else 2)
    if after in "{[":
        kind, closer = (PARAMETER, "}") if after == "{" else (ARITHMETIC, "]")
        shell.push(kind, start + at, closer=closer)
        return at + 2
    if is_bare and after in "'\"":
        shell.push(ANSI if after == "'" else DOUBLE, start + at)
        return at + 2
    return at + 1


def _read_backtick(shell: Shell, at: int) -> None:
    if any(frame.kind == BACKTICKS for frame in shell.frames):
        while shell.top.kind != BACKTICKS:
            _leave(shell)
        _leave(shell)
    else:
        shell.add(OPAQUE)
        shell.push(BACKTICKS, at)


def _leave(shell: Shell) -> None:
    if shell.top.kind in _LISTS:
        shell.end_command()
    shell.frames.pop()


def _read_redirection(shell: Shell, text: str, at: int, start: int) -> int:
    found = _REDIRECTION.match(text, at)
    operator = found[0] if found else text[at]
    frame = shell.list
    if frame.word is not None and frame.word.text.isdigit():
        frame.word = None  # the number of a descriptor
    shell.end_word()
    if operator.endswith("("):
        shell.add(PROCESS)
        shell.push(SUBSTITUTION, start + at)
    else:
        frame.expects = operator
    return at + len(operator)


def _read_parenthesis(shell: Shell, text: str, at: int, start: int) -> int:
    frame = shell.list
    if text[at] == ")":
        shell.end_command()
        if frame.kind in (SUBSTITUTION, SUBSHELL):
            shell.frames.pop()
        return at + 1
    words = [word.text for word in (*frame.words, frame.word) if word is not None]
    first = command_start(words)
    defines = _DEFINITION.match(text, at)
    if defines is not None and words and command_start(words[:-1]) == len(words) - 1:
        # The name of a function, whose first command follows.
        frame.words, frame.word, frame.digest = frame.words[: len(words) - 1], None, 0
        return defines.end()
    if words[first : first + 1] == ["case"] and words[-1] == "in":
        return at + 1  # before a pattern
    if words[first:] in ([], ["for"]) and text.startswith("((", at):
        shell.end_word()
        shell.push(ARITHMETIC, start + at)
        return at + 2
    shell.push(SUBSHELL, start + at)
    return at + 1


def _read_separator(shell: Shell, text: str, at: int, start: int) -> int:
    character = text[at]
    if character == "\n":
        frame = shell.list
        shell.end_command(goes_on=frame.is_piping and not frame.words and frame.word is None)
        shell.begin_heres(start + at + 1)
        return at + 1
    if character.isspace():
        shell.end_word()
        return at + 1
    doubled = text.startswith(character * 2, at)
    if text.startswith("&>", at):
        shell.end_word()
        return at + 1
    shell.end_command(goes_on=character == "|" and not doubled)
    return at + (2 if doubled or text.startswith("|&", at) else 1)


def _read_single(shell: Shell, text: str, at: int, start: int) -> int:
    end = text.find("'", at)
    shell.add(text[at : len(text) if end < 0 else end], is_quoted=True)
    if end < 0:
        return len(text)
    shell.frames.pop()
    return end + 1


def _read_ansi(shell: Shell, text: str, at: int, start: int) -> int:
    found = _IN_ANSI.match(text, at)
    end = found.end() if found else at
    shell.add(text[at:end], is_quoted=True)
    if text[end : end + 1] == "'":
        shell.frames.pop()
    return end + 1


def _read_double(shell: Shell, text: str, at: int, start: int) -> int:
    plain = _IN_DOUBLE.match(text, at)
    if plain is not None:
        shell.add(plain[0], is_quoted=True)
        return plain.end()
    if text[at] == '"':
        shell.frames.pop()
        return at + 1
    if text[at] == "\\":
        shell.add(text[at + 1 : at + 2], is_quoted=True)
        return at + 2
    return _read_quoting(shell, text, at, start)


def _read_parameter(shell: Shell, text: str, at: int, start: int) -> int:
    plain = _IN_PARAMETER.match(text, at)
    if plain is not None:
        return plain.end()
    if text[at] == "}":
        shell.frames.pop()
        return at + 1
    if text[at] == "'" and any(frame.kind in (DOUBLE, HERE) for frame in shell.frames):
        return at + 1  # inside double quotes it is a character like any other
    if text[at] == "\\":
        return at + 2
    return _read_quoting(shell, text, at, start)


def _read_arithmetic(shell: Shell, text: str, at: int, start: int) -> int:
    frame = shell.top
    opener, inner = ("[", _IN_BRACKETS) if frame.closer == "]" else ("(", _IN_ARITHMETIC)
    plain = inner.match(text, at)
    if plain is not None:
        return plain.end()
    if text[at] == opener:
        frame.depth += 1
    elif text[at] == frame.closer:
        if frame.depth == 0:
            shell.frames.pop()
            return at + (2 if text.startswith("))", at) else 1)
        frame.depth -= 1
    elif text[at] == "\\":
        return at + 2
    else:
        return _read_quoting(shell, text, at, start)
    return at + 1


def _read_here(shell: Shell, text: str, at: int, start: int) -> int:
    frame = shell.top
    here = frame.here
    end = text.find("\n", at)
    stop = len(text) if end < 0 else end
    if here is not None and not here.is_quoted:
        found = _IN_HERE.search(text, at, stop)
        if found is not None and text[found.start() - 1 : found.start()] != "\\":
            frame.line += text[at : found.start()] + OPAQUE
            return _read_quoting(shell, text, found.start(), start)
    frame.line += text[at:stop]
    if end < 0:
        return stop
    line, frame.line = frame.line, ""
    if here is not None and (line.lstrip("\t") if here.strips_tabs else line) == here.delimiter:
        shell.frames.pop()
    return end + 1


def _read_comment(shell: Shell, text: str, at: int, _start: int) -> int:
    end = text.find("\n", at)
    if end < 0:
        return len(text)
    shell.frames.pop()
    return end


_READERS: dict[str, Callable[[Shell, str, int, int], int]] = {
    **dict.fromkeys(_LISTS, _read_commands),
    SINGLE: _read_single,
    DOUBLE: _read_double,
    ANSI: _read_ansi,
    PARAMETER: _read_parameter,
    ARITHMETIC: _read_arithmetic,
    HERE: _read_here,
    COMMENT: _read_comment,
}
