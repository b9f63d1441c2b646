"""Slack's markup in messages: mentions of groups are text, unless a flow asks for them.

Messages repeat texts of outsiders. Flows of the original mention people and write links by markup,
so that is left as it is; a mention of a whole channel, or of a user group, notifies everybody in
it.
"""

import re
from typing import Any

_UNSEEN = r"[\s\x00-\x1f\x7f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]*"
_SPECIAL = re.compile(rf"<(?={_UNSEEN}!)(?!!date\^)")
_NAMES = re.compile(r"(?<!\w)@(?=(?:channel|here|everyone|group)\b)", re.IGNORECASE)
_JOINER = "\u2060"

_MENTIONS = {"broadcast": "range", "usergroup": "usergroup_id"}
_MARKED_UP = ("mrkdwn", "markdown")
_ATTACHED = frozenset(["author_name", "fallback", "footer", "pretext", "text", "title"])


def escape_mentions(text: str, *, links_names: bool = False) -> str:
    """Return a text with mentions of groups shown as they are written; `<!date^…>` stays.

    With `links_names`, Slack makes a mention of `@channel` too: an invisible character is put after
    the `@`.
    """
    shown = _SPECIAL.sub("&lt;", text)
    return _NAMES.sub(f"@{_JOINER}", shown) if links_names else shown


def escape_blocks(value: Any) -> Any:  # noqa: ANN401 - JSON of Slack's
    """Return blocks with quiet texts: those with markup, in which Slack finds names by itself.

    The rest is unchanged. Elements of rich text that mention groups become texts.
    """
    if isinstance(value, list):
        return [escape_blocks(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in _MENTIONS:
        return {"type": "text", "text": f"@{value.get(_MENTIONS[value['type']], '')}"}
    quieted = {key: escape_blocks(item) for key, item in value.items()}
    if value.get("type") in _MARKED_UP and isinstance(value.get("text"), str):
        quieted["text"] = escape_mentions(value["text"], links_names=not value.get("verbatim"))
    return quieted


def escape_attachments(
    attachments: list[dict[str, Any]], *, links_names: bool = False
) -> list[dict[str, Any]]:
    """Return attachments with quiet texts, titles, fields and blocks."""
    return [_quiet_attachment(attachment, links_names=links_names) for attachment in attachments]


def _quiet_attachment(attachment: dict[str, Any], *, links_names: bool) -> dict[str, Any]:
    quieted = dict(attachment)
    for key, item in attachment.items():
        if key in _ATTACHED and isinstance(item, str):
            quieted[key] = escape_mentions(item, links_names=links_names)
        elif key == "fields" and isinstance(item, list):
            quieted[key] = [_quiet_field(each, links_names=links_names) for each in item]
        elif key == "blocks":
            quieted[key] = escape_blocks(item)
    return quieted


def _quiet_field(field: object, *, links_names: bool) -> object:
    if not isinstance(field, dict):
        return field
    texts = {key: field[key] for key in ("title", "value") if isinstance(field.get(key), str)}
    return {
        **field,
        **{key: escape_mentions(text, links_names=links_names) for key, text in texts.items()},
    }
