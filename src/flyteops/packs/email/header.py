"""Addresses in received headers, in any syntax: the addresses that mail programs would reply to.

The structure is read first and encoded words are decoded after that, so that encoded text cannot
become structure.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unicodedata import normalize

from flyteops.packs.email.word import decoded, raw_decoded

MAX_LENGTH = 100_000
"""Maximum number of characters of an address header that are read."""

MAX_ADDRESS_LENGTH = 1000

MAX_FRAGMENTS = 10
"""Maximum number of pieces of which a name with unquoted commas is put together."""

MAX_ADDRESSES = 1000
"""Maximum number of addresses of a header that are reported."""

# The defects of an address header.
MISSING = "missing"
REPEATED = "repeated"
SEVERAL = "several"
NAME_HAS_ADDRESS = "name-has-address"
UNQUOTED = "unquoted-comma"
UNREADABLE = "unreadable"
UNUSUAL = "malformed"
CONTROLS = "control-characters"
TOO_LONG = "too-long"

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+)
      | (?P<literal>\[[^\[\]<>]*\])
      | (?P<mark>[(),;:<>"\[\]\\])
      | (?P<atom>[^ \t\r\n(),;:<>"\[\]\\]+)""",
    re.VERBOSE,
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_AROUND_ADDRESSES = re.compile(r"[\s<>\"',;()]+")
_COMMENT_PART = re.compile(r"[()]|\\.|[^()\\]+|\\", re.DOTALL)
_LOCAL = r"""(?:[^\s()<>@,;:"\\\[\]]+|"(?:[^"\\]|\\.)*")"""
_DOMAIN = r"""(?:[^\s()<>@,;:"\\\[\]]+|\[[^\s\[\]<>]*\])"""
_ADDRESS = re.compile(rf"({_LOCAL})@({_DOMAIN})", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9_.-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


_MARKS = frozenset('<>[]"\\:)')


@dataclass
class Mailboxes:
    """The addresses of a header with their names, and its defects."""

    found: list[tuple[str, str]] = field(default_factory=list)
    defects: set[str] = field(default_factory=set)
    unread: str = ""

    @property
    def addresses(self) -> list[str]:
        """The bare addresses."""
        return [address for _, address in self.found]


@dataclass
class _Element:
    """The part between two commas: the words of a name, text in angle brackets, and comments."""

    words: list[str] = field(default_factory=list)
    angles: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    is_damaged: bool = False

    @property
    def text(self) -> str:
        return "".join(self.words).strip()

    @property
    def name(self) -> str:
        return decoded(_unquoted(self.words)) or decoded(" ".join(self.comments))


def read_mailboxes(values: Sequence[str]) -> Mailboxes:
    """Read the values of all headers of one name.

    They are as in the message, with non-ASCII bytes as surrogates.
    """
    result = Mailboxes()
    if len(values) > 1:
        result.defects.add(REPEATED)
    for value in values:
        if len(value) > MAX_LENGTH:
            result.defects.add(TOO_LONG)
            continue
        _read(value, result)
    if len(result.found) > MAX_ADDRESSES:
        result.defects.add(TOO_LONG)
        del result.found[MAX_ADDRESSES:]
    return result


def _read(value: str, result: Mailboxes) -> None:
    if _CONTROLS.search(value):
        result.defects.add(CONTROLS)
        value = _CONTROLS.sub(" ", value)
    fragments: list[_Element] = []
    for element in _Reader(raw_decoded(value)).elements():
        if element.is_damaged:
            result.defects.add(UNUSUAL)
        if element.angles:
            _add_named(element, fragments, result)
            fragments = []
        elif element.text or element.comments:
            _add_bare(element, fragments, result)
    _leave(fragments, result)


def _add_named(element: _Element, fragments: list[_Element], result: Mailboxes) -> None:
    """Add the address in angle brackets.

    The text before it is its name, with earlier pieces if it contains unquoted commas.
    """
    name = element.name
    if fragments:
        result.defects.add(UNQUOTED)
        name = _joined([*fragments[:MAX_FRAGMENTS], element])
    found = [address for address in map(_address, element.angles) if address]
    if len(element.angles) > 1:
        result.defects.add(SEVERAL)
    if not found:
        _leave([element], result)
        return
    _add(name, found[-1], result)


def _add(name: str, address: str, result: Mailboxes) -> None:
    # Other characters look like @ too, and compatibility forms of letters like letters.
    shown = normalize("NFKC", name)
    named = {text.casefold() for text in _AROUND_ADDRESSES.split(shown) if "@" in text[1:-1]}
    if named - {address.casefold()}:
        result.defects.add(NAME_HAS_ADDRESS)
    result.found.append((name, address))


def _add_bare(element: _Element, fragments: list[_Element], result: Mailboxes) -> None:
    """Add an address without angle brackets, or keep a possible beginning of a name."""
    address = _address(element.text)
    if address:
        _leave(fragments, result)
        fragments.clear()
        _add(decoded(" ".join(element.comments)), address, result)
        return
    several = [found for found in map(_address, element.text.split()) if found]
    if several:
        result.defects.add(UNUSUAL)
        result.found.extend(("", found) for found in several)
    else:
        fragments.append(element)


def _leave(fragments: list[_Element], result: Mailboxes) -> None:
    if fragments:
        result.defects.add(UNREADABLE)
        result.unread = result.unread or _joined(fragments[:MAX_FRAGMENTS])


def _joined(elements: Sequence[_Element]) -> str:
    return ", ".join(filter(None, (each.name for each in elements)))


class _Reader:
    """Splits the value of an address header at its commas."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._closes_quotes = True

    def elements(self) -> Iterator[_Element]:
        """Yield the elements.

        A comma or a semicolon ends one, and a colon behind words begins a group.
        """
        element = _Element()
        for mark in iter(self._next, ""):
            match mark:
                case "," | ";":
                    yield element
                    element = _Element()
                case ":" if not element.angles:
                    element = _Element()
                case "(":
                    self._comment(element)
                case "<":
                    self._angle(element)
                case _:
                    self._word(mark, element)
        yield element

    def _next(self) -> str:
        """Return the next token, "" at the end; a quoted text is one, and blanks are one blank."""
        found = _TOKEN.match(self._text, self._at)
        if found is not None and found[0] == '"' and self._closes_quotes:
            quoted = _QUOTED.match(self._text, self._at)
            self._closes_quotes = quoted is not None  # no later one is closed either
            found = quoted or found
        if found is None:
            return ""
        self._at = found.end()
        return " " if found.lastgroup == "blank" else found[0]

    def _word(self, token: str, element: _Element) -> None:
        if token in _MARKS or (element.angles and not token.isspace()):
            element.is_damaged = True
        if token not in (">", '"'):
            element.words.append(token)

    def _comment(self, element: _Element) -> None:
        """Read a comment, which may hold others."""
        depth, parts = 1, []
        while depth and (found := _COMMENT_PART.match(self._text, self._at)):
            self._at = found.end()
            depth += {"(": 1, ")": -1}.get(found[0], 0)
            parts.append(found[0][1:] if found[0][0] == "\\" else found[0])
        if depth:
            element.is_damaged = True
        else:
            parts.pop()
        element.comments.append("".join(parts))

    def _angle(self, element: _Element) -> None:
        """Read the text in angle brackets."""
        parts: list[str] = []
        while True:
            before = self._at
            token = self._next()
            is_route = bool(parts) and parts[0].startswith("@")
            if token in ("", "<", ";") or (token == "," and not is_route):  # noqa: S105 - a token of the text
                element.is_damaged = True
                self._at = before
                break
            if token == ">":  # noqa: S105 - as above
                break
            if token == "(":  # noqa: S105 - as above
                self._comment(_Element())
            else:
                parts.append(token)
        element.angles.append("".join(parts).strip())


def _address(text: str) -> str:
    """Return an address with its domain in ASCII; "" if it is invalid."""
    if len(text) > MAX_ADDRESS_LENGTH:
        return ""
    bare = re.sub(r"\s*([@.])\s*", r"\1", text) if '"' not in text else text
    if bare[:7].casefold() == "mailto:":
        bare = bare[7:]
    if bare.startswith("@"):
        bare = bare.rpartition(":")[2]  # a route, as in obsolete syntax
    match = _ADDRESS.fullmatch(bare)
    if match is None or not bare.isprintable():
        return ""
    local, domain = match[1], match[2]
    if domain.isascii():
        return f"{local}@{domain}"
    try:
        encoded = domain.encode("idna").decode()
    except ValueError:
        return ""
    # IDNA maps some characters, such as the fullwidth @, to ones that no domain can have.
    return f"{local}@{encoded}" if _HOST.fullmatch(encoded) else ""


def _unquoted(words: Sequence[str]) -> str:
    """Return the words of a name in readable form."""
    return "".join(
        re.sub(r"\\(.)", r"\1", word[1:].removesuffix('"'), flags=re.DOTALL)
        if word.startswith('"')
        else word
        for word in words
    )
