"""Advice about chat messages that contain text of unauthenticated senders.

A chat would read such text as markup.
"""

from collections import deque
from collections.abc import Iterator, Set
from typing import NamedTuple

from flyteops import template
from flyteops.document import Document, Path
from flyteops.errors import Problem
from flyteops.flow.advice.outside import SINGLE_WORDS, prints_any, texts
from flyteops.model import Flow, JsonValue, Step

COMMANDS = frozenset(["SendMessage", "SendRichMessage", "UpdateMessage"])
TEXTS = frozenset(["fallback", "footer", "html", "message", "pretext", "text", "title", "value"])
"""The keys of inputs below which chats read markup."""

OUTSIDERS = frozenset(["Webhook"])
"""Packs whose events contain text of unauthenticated senders."""

OUTSIDE_EVENTS = frozenset(["ReceivedEmail"])

KNOWN = frozenset(
    [
        "automatic",
        "contentType",
        "date",
        "defects",
        "hook",
        "receivedAt",
        "size",
        "truncated",
        "vendor",
    ]
)
"""Fields of these events that senders cannot choose freely."""


class _Markup(NamedTuple):
    """How a chat reads a text, and the filter that quotes for it."""

    chat: str
    filter: str
    example: str


_SLACK = _Markup("Slack's markup", "quote_slack", "<!channel> or <https://…|a link>")
_MARKDOWN = _Markup("Markdown", "quote_md", "[a link](https://…)")
_HTML = _Markup("HTML", "escape", '<a href="…">')


def message_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    """Warn about text of unauthenticated senders that is not quoted for the chat in a message."""
    if not any(_is_from_outside(step) for step in flow.steps):
        return
    unquoted: dict[str, frozenset[str]] = {}
    for index, step in enumerate(flow.steps):
        if step.command.name not in COMMANDS:
            continue
        base: Path = ("steps", index, "command", "input")
        for path, source in texts(step.command.input, base):
            markup = _markup_at(step, path[len(base) :])
            if markup is None:
                continue
            if markup.filter not in unquoted:
                unquoted[markup.filter] = _unquoted_keys(flow, markup)
            for complaint in _about(step, source, markup, unquoted[markup.filter]):
                yield document.problem(path, complaint)


def _is_from_outside(step: Step) -> bool:
    return step.event.pack_name in OUTSIDERS or step.event.name in OUTSIDE_EVENTS


def _markup_at(step: Step, keys: Path) -> _Markup | None:
    """Return the markup of a text of an input in the chat; None where it has none."""
    if not keys or keys[-1] not in TEXTS:
        return None
    pack, value = step.command.pack_name.casefold(), step.command.input
    holder = _holder(value, keys)
    if "matrix" in pack:
        if keys[-1] == "html":
            return _HTML
        return _MARKDOWN if keys == ("message",) and _is_set(value, "markdown") else None
    if "slack" not in pack and pack != "chat":
        return None
    if keys[-1] == "html" or (
        isinstance(holder, dict) and holder.get("type") in ("plain_text", "button", "option")
    ):
        return None
    return None if keys == ("text",) and _is_set(value, "escape_text") else _SLACK


def _holder(value: JsonValue, keys: Path) -> JsonValue:
    """Return the object or list in which a text stands."""
    for key in keys[:-1]:
        value = value[key]
    return value


def _is_set(value: JsonValue, key: str) -> bool:
    return isinstance(value, dict) and value.get(key) in (True, "true")


def _unquoted_keys(flow: Flow, markup: _Markup) -> frozenset[str]:
    """Return the context paths with text of unauthenticated senders, and copies of such paths."""
    contexts = [
        (step, f"Context.{key}", template.compile(source))
        for step in flow.steps
        for key, source in (step.context or {}).items()
    ]
    readers: dict[str, list[int]] = {}
    for index, (_, _, compiled) in enumerate(contexts):
        for path in {each for variable in _paths(compiled) for each in _prefixes(variable)}:
            readers.setdefault(path, []).append(index)
    unquoted: set[str] = set()
    # Each context is looked at again only when one that it reads turns out to have such text.
    left = deque(range(len(contexts)))
    while left:
        step, path, compiled = contexts[left.popleft()]
        if path not in unquoted and any(_outside(step, compiled, markup, unquoted)):
            unquoted.add(path)
            left.extend(readers.get(path, ()))
    return frozenset(unquoted)


def _paths(compiled: template.Template) -> Iterator[str]:
    yield from compiled.variables
    for output in compiled.outputs:
        yield from output.paths


def _prefixes(path: str) -> Iterator[str]:
    """Yield the path, and those of everything that it is a part of."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _outside(
    step: Step, compiled: template.Template, markup: _Markup, unquoted: Set[str]
) -> Iterator[template.OutputNode]:
    """Yield the outputs that print such text unquoted."""
    harmless = SINGLE_WORDS | {
        markup.filter,
        "urlencode",
        *(["escape"] if markup is _SLACK else []),
    }
    is_outside = _is_from_outside(step)

    def is_unquoted(path: str) -> bool:
        parts = path.split(".")
        if parts[0] == "Context":
            return any(each in unquoted for each in _prefixes(path))
        if not is_outside or parts[:2] != ["Event", "Payload"]:
            return False
        return len(parts) == 2 or parts[2] not in KNOWN

    for output in compiled.outputs:
        if prints_any(compiled, output, harmless, is_unquoted):
            yield output


def _about(step: Step, source: str, markup: _Markup, unquoted: frozenset[str]) -> Iterator[str]:
    compiled = template.compile(source)
    for shown in dict.fromkeys(
        output.shown for output in _outside(step, compiled, markup, unquoted)
    ):
        yield (
            f"{{{{ {shown} }}}} is text from outside, and the chat reads it as {markup.chat}, such"
            f" as {markup.example}; write {{{{ {shown}|{markup.filter} }}}}"
        )
