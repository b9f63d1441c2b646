"""The width of text on a terminal, in columns."""

import unicodedata

_WIDE = ("W", "F")
_WITHOUT_WIDTH = ("Mn", "Me", "Cf")


def display_width(text: str) -> int:
    """Return the number of columns that a text takes: two for wide characters, as of Japanese."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut(text: str, width: int) -> str:
    """Return a text of at most `width` columns; one that is cut ends with an ellipsis."""
    if display_width(text) <= width:
        return text
    taken, left = [], width - 1
    for char in text:
        left -= _width(char)
        if left < 0:
            break
        taken.append(char)
    return "".join(taken) + "…"


def padding(text: str, width: int) -> str:
    """Return the spaces that fill up a text to `width` columns."""
    return " " * (width - display_width(text))


def _width(char: str) -> int:
    if unicodedata.category(char) in _WITHOUT_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1
