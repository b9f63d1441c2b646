"""Suggested chat messages, derived from the triggers of flows."""

import re
from collections.abc import Iterator, Sequence

from flyteops.model import Flow

CHAT = "Chat"

MATCH = re.compile(r"""Event\.Payload\.message\s*\|\s*match\s*:\s*(?:'([^']+)'|"([^"]+)")""")


def suggest_messages(flows: Sequence[Flow]) -> Iterator[str]:
    """Yield for each flow on the local chat at most one message that surely triggers it.

    Each message is yielded once.
    """
    suggested: set[str] = set()
    for flow in flows:
        words = _words_for_flow(flow)
        if words is not None and words not in suggested:
            suggested.add(words)
            yield words


def _words_for_flow(flow: Flow) -> str | None:
    for step in flow.steps:
        event = step.event
        if step.is_trigger and (event.pack_name, event.name) == (CHAT, "ReceivedMessage"):
            words = _words_for(step.criteria or "")
            if words is not None:
                return words
    return None


def _words_for(criteria: str) -> str | None:
    found = MATCH.search(criteria)
    # Criteria beyond the match may have further conditions.
    if found is None or not re.fullmatch(
        r"\{\{-?\s*" + re.escape(found[0]) + r"\s*-?\}\}", criteria.strip()
    ):
        return None
    return example_of((found[1] or found[2]).replace("\\\\", "\\"))


def example_of(pattern: str) -> str | None:
    """Return a text that matches a simple regular expression, None for a complex one."""
    text = pattern.replace("(?i)", "").replace(r"\b", "").removeprefix("^").removesuffix("$")
    text = re.sub(r"\((\\s[+*])\)|\\s[+*]", " ", text)
    text = re.sub(r"\([^()]*\)\?", "", text)
    text = re.sub(r"\(([^()|]*)(\|[^()]*)?\)", r"\1", text)
    if not re.fullmatch(r"[\w ,:!'-]+", text):
        return None
    flags = re.IGNORECASE if "(?i)" in pattern else re.NOFLAG
    try:
        return text if re.search(pattern.replace("(?i)", ""), text, flags) else None
    except re.error:
        return None
