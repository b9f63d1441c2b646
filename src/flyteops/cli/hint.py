"""What to type into the chat, guessed from what flows listen to."""

import re
from collections.abc import Iterator, Sequence

from flyteops.model import Flow

MATCH = re.compile(r"""Event\.Payload\.message\s*\|\s*match\s*:\s*(?:'([^']+)'|"([^"]+)")""")


def words_to_try(flows: Sequence[Flow]) -> Iterator[str]:
    """Return for each flow at most one message that it surely listens to."""
    for flow in flows:
        for step in flow.steps:
            if step.is_trigger and step.event.name == "ReceivedMessage":
                words = _words_for(step.criteria or "")
                if words is not None:
                    yield words
                    break


def _words_for(criteria: str) -> str | None:
    found = MATCH.search(criteria)
    # Criteria that ask for more than the match may want something else as well.
    if found is None or not re.fullmatch(r"\{\{-?\s*" + re.escape(found[0]) + r"\s*-?\}\}", criteria.strip()):
        return None
    return example_of((found[1] or found[2]).replace("\\\\", "\\"))


def example_of(pattern: str) -> str | None:
    """Return a plain text that a simple regular expression matches, None when the expression is not that simple."""
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
