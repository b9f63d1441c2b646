"""Changes of keyboards and chats to text: invisible characters, dashes, quotes, code marks."""

import re
import unicodedata

_DASHES = re.compile("[-\u2010-\u2015\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d]+")
_FROM_TWO = "\u2013\u2014\u2015\u2e3a\u2e3b\ufe58"
"""The dashes that keyboards make of two hyphens."""

_JOINERS = "\u200c\u200d"
"""They change the shape of letters, and belong to words and emoji."""

_EMOJI_ENDS = "\ufe0e\ufe0f"

# Further invisible characters, besides those of the category Cf.
_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_FENCE = re.compile(r"(```|~~~)(?:[^\S\n]*[\w+.-]*[^\S\n]*\n)?(.*?)\1", re.DOTALL)
_CODE = re.compile(r"(`{1,2})([^`\n]+)\1")

_DOUBLE = (
    '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u301d\u301e\u301f\uff02\u275d\u275e\u2e42\u300e\u300f'
    "\u300a\u300b\u2033\u2036"
)
_SINGLE = (
    "'\u2018\u2019\u201a\u201b\u2039\u203a\uff07\u275b\u275c\u300c\u300d\uff62\uff63\u3008\u3009"
    "\u00b4\u2032\u2035\u02bb\u02bc"
)
_CODE_MARK = "`"
OPENING = frozenset(_DOUBLE + _SINGLE + _CODE_MARK)
"""Opening quotes of a phrase; it ends with any quote of the same kind, since keyboards mix them."""

_SPACED = frozenset("\u00ab\u00bb\u2039\u203a")
"""Quotes that are written with spaces inside, which French keyboards insert."""

_EMPHASIS = "*_~`"
_PUNCTUATION = f"{_EMPHASIS},;:.!?"

_ASCII_QUOTES = "\"'`"


def is_unseen(letter: str) -> bool:
    """Return whether a character takes no place and has no meaning, such as a zero-width space."""
    return unicodedata.category(letter) == "Cf" or _FILLERS.match(letter) is not None


def is_gap(letter: str) -> bool:
    """Return whether a character may stand between words."""
    return letter.isspace() or is_unseen(letter)


def without_code_marks(message: str) -> str:
    """Return a message without code marks at its beginning.

    People paste commands with the marks of the page, or with half of them.
    """
    rest = without_gap(message)
    for pattern in (_FENCE, _CODE):
        found = pattern.match(rest)
        if found is not None:
            return f"{found[2].strip()}{rest[found.end() :]}"
    bare = rest.lstrip(_CODE_MARK)
    return message if _CODE_MARK in bare else bare


def without_marks(message: str) -> str:
    """Return a message without quotes around all of it, emphasis and code marks at its beginning.

    Such a message is not a command, but may be meant as one.
    """
    rest = without_gap(without_code_marks(message)).lstrip(_EMPHASIS)
    quoted = rest.rstrip(_PUNCTUATION)
    if quoted[:1] in OPENING and closing(quoted, 0) == len(quoted) - 1:
        rest = quoted[1:]
    return rest


def without_punctuation(word: str) -> str:
    """Return a word without the punctuation and marks behind it."""
    return without_gap(word).rstrip(_PUNCTUATION)


def phrase(text: str, quote: str) -> str:
    """Return the text between quotes of a kind."""
    return without_gap(text) if quote in _SPACED else text


def normalize_word(word: str) -> str:
    """Return a word in the form for comparison with patterns.

    It is case-folded, composed, and without invisible characters.
    """
    seen = "".join(letter for letter in unicodedata.normalize("NFC", word) if not is_unseen(letter))
    return unicodedata.normalize("NFC", seen.casefold())


def is_same(word: str, wanted: str) -> bool:
    """Return whether a person typed a word of a pattern.

    Dashes of any kind match any number of hyphens.
    """
    typed, asked = normalize_word(word), normalize_word(wanted)
    if typed == asked or typed.isascii() or not _DASHES.search(typed):
        return typed == asked
    return not _has_only_hyphens(typed) and _DASHES.sub("-", typed) == _DASHES.sub("-", asked)


def argument(word: str) -> str:
    """Return a word as an argument: a dash made of two hyphens becomes those again before a letter.

    Invisible characters are left out, except those that letters and emoji are composed of.
    """
    seen = "".join(
        letter
        for letter in word
        if letter in _JOINERS or _FILLERS.match(letter) or not is_unseen(letter)
    )
    seen = without_gap(seen)
    if len(seen) > 1 and seen[0] in _FROM_TWO and seen[1].isalpha():
        return f"--{seen[1:]}"
    return seen


def without_gap(text: str) -> str:
    """Return a text without invisible characters at its ends.

    An emoji ends with such a character, which stays.
    """
    begin, end = 0, len(text)
    while begin < end and is_gap(text[begin]):
        begin += 1
    while end > begin and is_gap(text[end - 1]) and text[end - 1] not in _EMOJI_ENDS:
        end -= 1
    return text[begin:end]


def closing(message: str, place: int) -> int:
    """Return the end of the phrase whose quote opens at a place, or -1 if it has none.

    A closing quote is followed by a gap or the end. The first one of the same kind counts; but a
    phrase opened by an ASCII quote goes on to the next of these, unless another phrase begins
    before.
    """
    opened = message[place]
    kind = next(each for each in (_DOUBLE, _SINGLE, _CODE_MARK) if opened in each)
    first = -1
    for end in range(place + 1, len(message)):
        letter = message[end]
        if letter not in kind:
            continue
        if end + 1 == len(message) or is_gap(message[end + 1]):
            if letter == opened or opened not in _ASCII_QUOTES:
                return end
            first = end if first < 0 else first
        elif first >= 0 and is_gap(message[end - 1]):
            break
    return first


def _has_only_hyphens(text: str) -> bool:
    return all(set(run) == {"-"} for run in _DASHES.findall(text))
