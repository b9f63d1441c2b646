"""The nearest of the valid words, for messages about an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

MAX_WORDS = 100
"""The maximum number of words among which the nearest is searched."""


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably intended, None if there is none."""
    names = list(islice(known, MAX_WORDS))
    wanted = word[:MAX_WORDS].casefold()
    folded = {name.casefold(): name for name in names}
    near = get_close_matches(wanted, folded, n=1, cutoff=0.6)
    if near:
        return folded[near[0]]
    return next((name for name in names if wanted and wanted in name.casefold()), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known word, or nothing."""
    near = nearest_word(word, known)
    return "" if near is None else f"; did you mean {near!r}?"
