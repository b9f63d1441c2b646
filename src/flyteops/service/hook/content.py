"""The content of a hook call: its body as a JSON value, its headers and its query. Pure."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

import msgspec

from flyteops.document import decode_json, parse_json, repair_json
from flyteops.errors import InputError
from flyteops.model import JsonValue
from flyteops.service.hook.signing import HookRequest

CHARSETS = frozenset(
    [
        "utf-8",
        "utf8",
        "utf-16",
        "utf-16le",
        "utf-16be",
        "us-ascii",
        "ascii",
        "latin1",
        *(f"iso-8859-{part}" for part in range(1, 17) if part != 12),
        *(f"windows-{page}" for page in range(1250, 1259)),
        *("koi8-r", "koi8-u", "tis-620"),
        *("shift_jis", "euc-jp", "iso-2022-jp", "euc-kr"),
        *("gb2312", "gbk", "gb18030", "big5"),
    ]
)
"""The charsets allowed for text.

Some codecs known to Python are not charsets.
"""

JSON_LINES = frozenset(
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/json-seq",
        "text/x-ndjson",
    ]
)
"""The media types with a JSON value on each line."""

WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "tis-620": "cp874",
}
"""The charsets that programs write under these names, as on the web."""

XML_DECLARATION = re.compile(rb"<\?xml[^>]{1,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")

FORM = "application/x-www-form-urlencoded"

MOST_FIELDS = 1000

WANTED = re.compile(
    r"user-agent|content-type|idempotency-key|request-id|(x|webhook|ce|linear|sentry|shopify)-.+"
)
"""The headers that events have."""

SECRET = re.compile(
    r"authori[sz]ation|cookie|token|secret|signature|passw|credential|hmac|api-?key|-key$|"
    r"auth(?!or)"
)
"""Headers whose values are never shown, from any vendor: secrets by any name.

`idempotency-key` is not one of them.
"""

BOM = b"\xef\xbb\xbf"


class Content(msgspec.Struct, frozen=True):
    """The body: its media type, its value, and its JSON text, lossless also for large numbers."""

    media_type: str
    value: JsonValue
    text: msgspec.Raw


def read_content(request: HookRequest) -> Content:
    """Return the content of the body; raise `InputError` if flows could not read it."""
    media_type, parameters = _media_type(request.header("content-type") or "")
    if not request.body:
        return Content(media_type, None, msgspec.Raw(b"null"))
    if media_type in JSON_LINES:
        return _json_lines(media_type, _utf8(request.body, parameters))
    if media_type in ("", "application/json", "text/json") or media_type.endswith("+json"):
        return _json(media_type, _utf8(request.body, parameters))
    if media_type == FORM:
        return _form(request.body, parameters)
    is_xml = media_type in ("application/xml", "text/xml") or media_type.endswith("+xml")
    if is_xml or media_type.startswith("text/"):
        text = _text(request.body, {**(_xml_charset(request.body) if is_xml else {}), **parameters})
        return Content(media_type, text, msgspec.Raw(msgspec.json.encode(text)))
    raise InputError(
        f"The content type {media_type!r} is not supported; send JSON, lines of JSON, {FORM}, XML"
        " or text."
    )


def _xml_charset(body: bytes) -> Mapping[str, str]:
    """Return the charset that the declaration of an XML document names."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return {"charset": "utf-16"}
    found = XML_DECLARATION.match(body.removeprefix(BOM))
    return {} if found is None else {"charset": found[1].decode("latin-1")}


def _json_lines(media_type: str, text: bytes) -> Content:
    values: list[JsonValue] = []
    texts: list[bytes] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        stripped = line.strip(b" \t\r\x1e")  # RFC 7464 has a record separator before each text
        if not stripped:
            continue
        try:
            content = _json(media_type, stripped)
        except InputError as error:
            raise InputError(f"Line {number} of the body: {error.message}") from error
        values.append(content.value)
        texts.append(bytes(content.text))
    return Content(media_type, values, msgspec.Raw(b"[" + b",".join(texts) + b"]"))


def _media_type(header: str) -> tuple[str, Mapping[str, str]]:
    media_type, *parts = header.split(";")
    pairs = [part.partition("=") for part in parts]
    return media_type.strip().lower(), {
        name.strip().lower(): value.strip().strip('"') for name, _, value in pairs
    }


def _text(body: bytes, parameters: Mapping[str, str]) -> str:
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in CHARSETS:
        raise InputError(f"The charset {charset!r} is not supported.")
    try:
        return (
            body.removeprefix(BOM).decode(charset)
            if charset.startswith("utf")
            else body.decode(WIDER.get(charset, charset))
        )
    except UnicodeDecodeError as error:
        raise InputError(f"The body is not text in {charset}.") from error


def _utf8(body: bytes, parameters: Mapping[str, str]) -> bytes:
    return _text(body, parameters).encode()


def _json(media_type: str, text: bytes) -> Content:
    text = repair_json(text) if b"\\u" in text else text
    return Content(media_type, parse_json(text).value, msgspec.Raw(text))


def _form(body: bytes, parameters: Mapping[str, str]) -> Content:
    fields = collect_fields(_text(body, parameters))
    payload = fields.get("payload")
    if len(fields) == 1 and isinstance(payload, str):  # GitHub puts JSON into a form this way
        try:
            decode_json(payload.encode())
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        else:
            return _json(FORM, payload.encode())
    return Content(FORM, fields, msgspec.Raw(msgspec.json.encode(fields)))


def field_at(value: JsonValue, path: str) -> str | None:
    """Return the text or whole number at a path such as `event.id`, None if there is none."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def collect_fields(text: str) -> dict[str, JsonValue]:
    """Return the fields of a form or query: a text each, or a list for those of the same name."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise InputError(
            f"The form or query is not UTF-8 text, or has more than {MOST_FIELDS} fields."
        ) from error
    fields: dict[str, JsonValue] = {}
    for name, value in pairs:
        fields[name] = value if name not in fields else [*_list(fields[name]), value]
    return fields


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else [value]


def is_secret(name: str, secret_headers: Iterable[str]) -> bool:
    """Return whether the value of a header must not be shown."""
    return name in secret_headers or (name != "idempotency-key" and SECRET.search(name) is not None)


def event_headers(request: HookRequest, secret_headers: Iterable[str]) -> dict[str, str]:
    """Return the headers for the event."""
    return {
        name: value
        for name, value in sorted(request.headers.items())
        if WANTED.fullmatch(name) and not is_secret(name, secret_headers)
    }
