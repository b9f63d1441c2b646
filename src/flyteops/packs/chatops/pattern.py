"""Patterns of commands in a chat, such as ``deploy {app} [to {stage:test|live}] [{note...}]``.

A word stands for itself, in any case. ``{name}`` is one word or a quoted phrase, ``{name:one|two}``
one of these words, ``{name...}`` the rest of the line, as it was typed. A part in brackets may be
absent.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from flyteops.errors import InputError
from flyteops.packs.chatops import typed

MAX_PATTERN = 500
MAX_TEXT = 10_000

_PIECE = re.compile(
    r"(?P<blank>\s+)|(?P<open>\[)|(?P<close>\])"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<rest>\.\.\.)|:(?P<choices>[^{}\[\]\s|]+(?:\|[^{}\["
    r"\]\s|]+)*))?\}"
    r"|(?P<word>[^\s{}\[\]]+)"
)


class Word(msgspec.Struct, frozen=True):
    """A word of a message, and its place there; a quoted phrase is one word, as it was typed."""

    text: str
    start: int
    is_quoted: bool = False
    is_code: bool = False


class PatternPart(msgspec.Struct, frozen=True):
    """One place of a pattern: a word when `name` is empty, else an argument."""

    text: str = ""
    name: str = ""
    choices: tuple[str, ...] = ()
    is_rest: bool = False

    def value(self, message: str, word: Word) -> str | None:
        """Return the value of the word for this part, or None if it does not fit."""
        if self.is_rest:
            return typed.without_gap(message[word.start :])
        if not self.name:
            is_bare = word.is_code or not word.is_quoted
            return self.text if is_bare and typed.is_same(word.text, self.text) else None
        if not self.choices:
            return word.text if word.is_quoted else typed.argument(word.text)
        return next((choice for choice in self.choices if typed.is_same(word.text, choice)), None)

    def __str__(self) -> str:
        if not self.name:
            return self.text
        choices = ":" + "|".join(self.choices) if self.choices else ""
        return f"{{{self.name}{choices}{'...' if self.is_rest else ''}}}"


class CommandPattern(msgspec.Struct, frozen=True):
    """The form of a command: groups of parts, of which some may be absent as a whole."""

    groups: tuple[tuple[bool, tuple[PatternPart, ...]], ...]

    @classmethod
    def parse(cls, text: str) -> "CommandPattern":
        """Read a pattern; raise `InputError` with its fault."""
        if len(text) > MAX_PATTERN:
            message = f"a pattern has at most {MAX_PATTERN} characters"
            raise InputError(message)
        pattern = cls(tuple(_groups(text)))
        _examine(pattern, text)
        return pattern

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(part.name for part in self._parts() if part.name)

    @property
    def opening(self) -> tuple[str, ...]:
        """Its first words."""
        is_optional, parts = self.groups[0]
        opening: list[str] = []
        for part in () if is_optional else parts:
            if part.name:
                break
            opening.append(part.text)
        return tuple(opening)

    def match(self, message: str) -> dict[str, str] | None:
        """Return the arguments in a message, "" for absent ones; None if it is not this command."""
        if len(message) > MAX_TEXT:
            return None
        message = typed.without_code_marks(message)
        words = list(split(message))
        found = _Search(self, message, words).run(0, 0, 0) if words else None
        return None if found is None else {name: found.get(name, "") for name in self.names}

    def begins(self, message: str) -> bool:
        """Return whether a message begins like this command, with any continuation."""
        return self._opens(message, self.opening)

    def is_meant(self, message: str) -> bool:
        """Return whether the first word of a message is that of this command.

        Marks around the message and punctuation behind the word do not count.
        """
        if self._opens(message, self.opening[:1]):
            return True
        first = next(split(typed.without_marks(message[:MAX_TEXT])), None)
        if first is None or first.is_quoted or not self.opening:
            return False
        return typed.is_same(typed.without_punctuation(first.text), self.opening[0])

    def _opens(self, message: str, opening: tuple[str, ...]) -> bool:
        words = list(islice(split(typed.without_code_marks(message[:MAX_TEXT])), len(opening)))
        are_same = (
            part.value("", word) is not None
            for part, word in zip(map(PatternPart, opening), words, strict=False)
        )
        return bool(opening) and len(words) == len(opening) and all(are_same)

    def write(self, arguments: Mapping[str, str]) -> str:
        """Return a message with these arguments, as a person would type it."""
        written: list[str] = []
        for is_optional, parts in self.groups:
            if is_optional and not any(arguments.get(part.name) for part in parts):
                continue
            written += [_written(part, arguments) for part in parts]
        return " ".join(written)

    def __str__(self) -> str:
        texts = (" ".join(map(str, parts)) for _, parts in self.groups)
        return " ".join(
            f"[{text}]" if optional else text
            for text, (optional, _) in zip(texts, self.groups, strict=True)
        )

    def _parts(self) -> Iterator[PatternPart]:
        for _, parts in self.groups:
            yield from parts


def _written(part: PatternPart, arguments: Mapping[str, str]) -> str:
    if not part.name:
        return part.text
    argument = arguments.get(part.name, "")
    return argument if part.is_rest else _quoted(argument)


class _Search:
    """Matches words to parts; a search that failed at a place is not repeated there."""

    def __init__(self, pattern: CommandPattern, message: str, words: list[Word]) -> None:
        self._groups = pattern.groups
        self._message = message
        self._words = words
        self._failed: set[tuple[int, int, int]] = set()
        self._options = [
            part.text for _, parts in pattern.groups for part in parts if part.text.startswith("-")
        ]

    def run(self, group: int, part: int, word: int) -> dict[str, str] | None:
        """Return the arguments from a part of a group and a word on; None if they do not match."""
        if group == len(self._groups):
            return {} if word == len(self._words) else None
        place = (group, part, word)
        if place in self._failed:
            return None
        found = self._take(group, part, word)
        if found is None and part == 0 and self._groups[group][0]:
            found = self.run(group + 1, 0, word)
        if found is None:
            self._failed.add(place)
        return found

    def _take(self, group: int, number: int, word: int) -> dict[str, str] | None:
        parts = self._groups[group][1]
        if word == len(self._words):
            return None
        part = parts[number]
        value = part.value(self._message, self._words[word])
        if value is None or (part.name and not part.is_rest and self._is_option(self._words[word])):
            return None
        following = len(self._words) if part.is_rest else word + 1
        is_last = number + 1 == len(parts)
        found = (
            self.run(group + 1, 0, following) if is_last else self.run(group, number + 1, following)
        )
        if found is not None and part.name:
            return {part.name: value} | found
        return found

    def _is_option(self, word: Word) -> bool:
        """Return whether a word is an option of the pattern; a quoted one is an argument."""
        return not word.is_quoted and any(
            typed.is_same(word.text, option) for option in self._options
        )


def split(message: str) -> Iterator[Word]:
    """Return the words of a message.

    A quote opens only at the beginning of a word, and only if it is closed somewhere.
    """
    place = 0
    unclosed: set[str] = set()
    while place < len(message):
        letter = message[place]
        if typed.is_gap(letter):
            place += 1
            continue
        closing = (
            typed.closing(message, place)
            if letter in typed.OPENING and letter not in unclosed
            else -1
        )
        if closing >= 0:
            is_code = letter == "`"
            phrase = message[place + 1 : closing]
            yield Word(
                phrase.strip("`").strip() if is_code else typed.phrase(phrase, letter),
                place,
                is_quoted=True,
                is_code=is_code,
            )
            place = closing + 1
            continue
        if letter in typed.OPENING:
            unclosed.add(letter)  # no later one is closed either
        end = next(
            (end for end in range(place, len(message)) if message[end].isspace()), len(message)
        )
        yield Word(message[place:end], place)
        place = end


def _groups(text: str) -> Iterator[tuple[bool, tuple[PatternPart, ...]]]:
    parts: list[PatternPart] = []
    is_open = False
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            message = (
                f"{text[place:]!r} is neither a word nor {{name}}, {{name:one|two}}, {{name...}} or"
                " [optional words]"
            )
            raise InputError(message)
        place = piece.end()
        if piece["open"] or piece["close"]:
            if is_open is bool(piece["open"]):
                raise InputError(
                    "brackets cannot be nested" if is_open else "] without an opening ["
                )
            if is_open and not parts:
                raise InputError("the brackets are empty")
            if parts:
                yield is_open, tuple(parts)
            parts, is_open = [], not is_open
        elif not piece["blank"]:
            parts.append(_part(piece))
    if is_open:
        raise InputError("[ without a closing ]")
    if parts:
        yield False, tuple(parts)


def _part(piece: re.Match[str]) -> PatternPart:
    if piece["word"] and piece["word"][0] in typed.OPENING:
        message = f"{piece['word']!r} begins with a quote; quotes are for typed arguments only"
        raise InputError(message)
    if piece["word"]:
        return PatternPart(text=piece["word"])
    choices = tuple(piece["choices"].split("|")) if piece["choices"] else ()
    return PatternPart(name=piece["name"], choices=choices, is_rest=bool(piece["rest"]))


def _examine(pattern: CommandPattern, text: str) -> None:
    if not pattern.groups or not pattern.opening:
        message = f"{text!r} does not begin with a word, so it would match every message"
        raise InputError(message)
    names = pattern.names
    if twice := next((name for name in names if names.count(name) > 1), None):
        message = f"{{{twice}}} is there twice"
        raise InputError(message)
    *others, _ = [part for _, parts in pattern.groups for part in parts]
    if rest := next((part for part in others if part.is_rest), None):
        message = f"{rest} takes the rest of the line, so nothing can follow it"
        raise InputError(message)


def _quoted(value: str) -> str:
    if (
        value
        and value[0] not in typed.OPENING
        and value[0] != "-"
        and not any(map(_needs_quotes, value))
    ):
        return value
    quote = next((quote for quote in ('"', "'") if quote not in value), '"')
    return f"{quote}{value}{quote}"


def _needs_quotes(letter: str) -> bool:
    return typed.is_gap(letter) or unicodedata.category(letter) == "Pd"
