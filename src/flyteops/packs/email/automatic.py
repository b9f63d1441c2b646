"""Detection of mail from programs: a reply to a program may be answered by it without end."""

import re
from collections.abc import Iterator
from email.message import EmailMessage

from flyteops.packs.email.damage import tolerate
from flyteops.packs.email.header import read_mailboxes
from flyteops.packs.email.word import raw_decoded

_MAX_LENGTH = 10_000
_DEEPEST = 20

_REPORTS = frozenset(
    ["message/delivery-status", "message/disposition-notification", "message/feedback-report"]
)
_REPLIES = frozenset(["reply", "counter", "declinecounter", "refresh"])
"""The replies of calendar programs; `request`, an invitation, is sent by a person."""

_BULK = frozenset(["bulk", "junk", "list", "auto_reply", "auto-reply"])
_SAYS_SO = re.compile(
    r"x-(mail-|ms-|ms-exchange-|amazon-)?("
    r"auto-?(re(ply|plied|spond|sponse|sponder)(-\w+)*|generated|submitted)|"
    r"generated-message-source|inbox-rules-loop|fc-machinegenerated|vacation)"
)
_LISTS = re.compile(r"list-\w[\w-]*|mailing-list|x-(mailing-?list|list|list-id|list-host)")
_OTHERS = frozenset(["x-failed-recipients", "x-cron-env"])
_NOTHING = frozenset(["", "no", "none", "false", "0"])
_METHOD = re.compile(rb"^METHOD(?:;[^:\r\n]*)?:\s*(\w+)", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(r"\\.|[()]|[^\\()]+|\\", re.DOTALL)


def is_automatic(message: EmailMessage) -> bool:
    """Return whether a program wrote a message.

    That is a notification, a report, an automatic reply, or the mail of a list.
    """
    if any(_says_so(name.lower(), str(value)[:_MAX_LENGTH]) for name, value in message.raw_items()):
        return True
    return any(_is_report(part) for part in _parts(message, _DEEPEST))


def _says_so(name: str, value: str) -> bool:
    if name == "return-path":
        return bool(re.fullmatch(r"<\s*>", _bare(value)))
    if name == "from":
        senders = read_mailboxes([value]).addresses
        return bool(senders) and senders[0].casefold().partition("@")[0] == "mailer-daemon"
    word = _bare(value).partition(";")[0].strip().casefold()
    if name in ("precedence", "x-precedence"):
        return word in _BULK
    if name == "x-post-messageclass":
        return "autoresponder" in _bare(value).casefold()
    if name == "auto-submitted" or _SAYS_SO.fullmatch(name):
        return word not in _NOTHING
    return bool(word) and (name in _OTHERS or _LISTS.fullmatch(name) is not None)


def _bare(text: str) -> str:
    """Return the value of a header without its comments, which may hold others."""
    depth, parts = 0, []
    for token in _COMMENT.findall(raw_decoded(text)):
        if token == "(":  # noqa: S105 - a token of the text
            depth += 1
        elif token == ")":  # noqa: S105 - as above
            depth = max(0, depth - 1)
        elif not depth:
            parts.append(token)
    return " ".join("".join(parts).split())


def _parts(message: EmailMessage, deepest: int) -> Iterator[EmailMessage]:
    """Return a message and its parts, but not those of messages inside of it."""
    yield message
    inner = message.get_payload()
    if isinstance(inner, list) and deepest and message.get_content_maintype() == "multipart":
        for part in inner:
            if isinstance(part, EmailMessage):
                yield from _parts(part, deepest - 1)


def _is_report(part: EmailMessage) -> bool:
    kind = part.get_content_type()
    if kind == "multipart/report" or kind in _REPORTS:
        return True
    return kind == "text/calendar" and _method(part) in _REPLIES


def _method(part: EmailMessage) -> str:
    """Return the method of a calendar entry, "" if it has none."""
    said, content = tolerate(
        lambda: (str(part.get_param("method", "") or ""), part.get_payload(decode=True)), ("", None)
    )
    if not said and isinstance(content, bytes) and (found := _METHOD.search(content[:_MAX_LENGTH])):
        said = found[1].decode("ascii", "replace")
    return said.strip().casefold()
