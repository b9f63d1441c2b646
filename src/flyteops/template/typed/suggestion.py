"""Suggestions for unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known word, or "" if none is near."""
    folded = {each.casefold(): each for each in known}
    near = get_close_matches(word[:40].casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""
