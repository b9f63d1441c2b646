"""What keyboards and chats make of what people type: characters that cannot be seen, dashes, quotes and code marks."""

import re
import unicodedata

_DASHES = re.compile("[-\u2010-\u2015\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d]+")
_FROM_TWO = "\u2013\u2014\u2015\u2e3a\u2e3b\ufe58"
"""The dashes that keyboards make of two hyphens."""

_JOINERS = "\u200c\u200d"
"""They change how letters look, and belong to words and emoji."""

_EMOJI_ENDS = "\ufe0e\ufe0f"

# Further characters that cannot be seen, besides those of the category Cf.
_FILLERS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
_FENCE = re.compile(r"```(?:[^\S\n]*[\w+.-]*[^\S\n]*\n)?(.*?)```", re.DOTALL)
_CODE = re.compile(r"(`{1,2})([^`\n]+)\1")

_DOUBLE = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u301d\u301e\u301f\uff02\u275d\u275e\u2e42\u300e\u300f\u300a\u300b'
_SINGLE = "'\u2018\u2019\u201a\u201b\u2039\u203a\uff07\u275b\u275c\u300c\u300d\uff62\uff63\u3008\u3009"
_CODE_MARK = "`"
OPENING = frozenset(_DOUBLE + _SINGLE + _CODE_MARK)
"""What a quoted phrase begins with; it ends with any quote of the same kind, since keyboards mix them."""

_ASCII_QUOTES = "\"'`"


def is_unseen(letter: str) -> bool:
    """Tell whether a character takes no place and means nothing, such as a zero-width space."""
    return unicodedata.category(letter) == "Cf" or _FILLERS.match(letter) is not None


def is_gap(letter: str) -> bool:
    """Tell whether a character may stand between words."""
    return letter.isspace() or is_unseen(letter)


def without_code_marks(message: str) -> str:
    """Return a message whose beginning is not marked as code: people paste commands with the marks of the page."""
    rest = without_gap(message)
    for pattern, group in ((_FENCE, 1), (_CODE, 2)):
        found = pattern.match(rest)
        if found is not None:
            return f"{found[group].strip()}{rest[found.end() :]}"
    return message


def plain(word: str) -> str:
    """Return a word as it is compared with one of a pattern: whatever its case, composed, without what cannot be seen."""
    seen = "".join(letter for letter in unicodedata.normalize("NFC", word) if not is_unseen(letter))
    return unicodedata.normalize("NFC", seen.casefold())


def is_same(word: str, wanted: str) -> bool:
    """Tell whether somebody typed a word of a pattern; dashes of any kind do for hyphens, however many they were."""
    typed, asked = plain(word), plain(wanted)
    if typed == asked or typed.isascii() or not _DASHES.search(typed):
        return typed == asked
    return not _has_only_hyphens(typed) and _DASHES.sub("-", typed) == _DASHES.sub("-", asked)


def argument(word: str) -> str:
    """Return a word as an argument: a dash that a keyboard made of two hyphens is those again before a letter.

    What cannot be seen is left out, but not what letters and emoji are composed of.
    """
    seen = "".join(letter for letter in word if letter in _JOINERS or _FILLERS.match(letter) or not is_unseen(letter))
    seen = without_gap(seen)
    if len(seen) > 1 and seen[0] in _FROM_TWO and seen[1].isalpha():
        return f"--{seen[1:]}"
    return seen


def without_gap(text: str) -> str:
    """Return a text without what cannot be seen at its ends; emoji end with such a character, which stays."""
    begin, end = 0, len(text)
    while begin < end and is_gap(text[begin]):
        begin += 1
    while end > begin and is_gap(text[end - 1]) and text[end - 1] not in _EMOJI_ENDS:
        end -= 1
    return text[begin:end]


def closing(message: str, place: int) -> int:
    """Return where the phrase ends whose quote opens at a place; -1 if none does.

    A closing quote has a gap or nothing behind it. The one of the same kind that comes first counts; but one that was opened
    by a quote of ASCII goes on to the next of these, unless another phrase begins before.
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
