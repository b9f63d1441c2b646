"""Upper, lower and title case, character by character as in Go, so that lengths never change."""

import re
from collections.abc import Callable

# The white space of Go's strings.TrimSpace and strings.Fields; Python's own set has four control
# characters more.
SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_GAP = re.compile(f"[{SPACES}]+")
_ASCII_WORD = re.compile("[0-9A-Za-z_]")


def upper(string: str) -> str:
    """Return the text in upper case."""
    return string.upper() if string.isascii() else _mapped(string, _upper)


def lower(string: str) -> str:
    """Return the text in lower case."""
    return string.lower() if string.isascii() else _mapped(string, _lower)


def title(string: str) -> str:
    """Return the text with every word's first letter in title case, the rest untouched."""
    result, separated = [], True
    for character in string:
        result.append(_title(character) if separated else character)
        separated = _separates(character)
    return "".join(result)


def words(string: str) -> list[str]:
    """Split at white space."""
    return [word for word in _GAP.split(string) if word]


def _mapped(string: str, change: Callable[[str], str]) -> str:
    """Change every character; a long text has few distinct ones."""
    return string.translate({ord(character): change(character) for character in set(string)})


def _upper(character: str) -> str:
    changed = character.upper()
    return changed if len(changed) == 1 else _title(character)


def _lower(character: str) -> str:
    return character.lower()[0]


def _title(character: str) -> str:
    changed = character.title()
    return changed if len(changed) == 1 else character


def _separates(character: str) -> bool:
    if character < "\x80":
        return not _ASCII_WORD.match(character)
    return character in SPACES
