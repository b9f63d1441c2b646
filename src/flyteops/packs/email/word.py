"""The words of headers in readable form: encoded words, and non-ASCII bytes."""

import binascii
import quopri
import re

from flyteops.packs.email import charset

_WORDS = re.compile(r"=\?[^?\s]*\?[bBqQ]\?[^?]*\?=(?:\s+=\?[^?\s]*\?[bBqQ]\?[^?]*\?=)*")
_WORD = re.compile(r"=\?([^?\s*]*)(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_RAW = re.compile(r"[\udc80-\udcff]+")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def decoded(text: str) -> str:
    """Return a text with encoded words decoded, on one line and without invisible characters."""
    shown = _WORDS.sub(lambda match: _decoded_words(match[0]), raw_decoded(text))
    return " ".join(_UNSEEN.sub(" ", shown).split())


def raw_decoded(text: str) -> str:
    """Return a text with its non-ASCII bytes decoded: as UTF-8, or else as Windows-1252."""
    return _RAW.sub(
        lambda match: charset.decode_without_charset(match[0].encode("ascii", "surrogateescape")),
        text,
    )


def _bytes_decoded(content: bytes, name: str) -> str:
    text = charset.decode_if_valid(content, name)
    return charset.decode_without_charset(content) if text is None else text


def _decoded_words(text: str) -> str:
    """Decode adjacent encoded words; a character may begin in one and end in the next."""
    parts: list[tuple[str, bytes]] = []
    for name, encoding, encoded in _WORD.findall(text):
        content = _word_bytes(encoding, encoded)
        if parts and parts[-1][0] == name.lower():
            parts[-1] = (name.lower(), parts[-1][1] + content)
        else:
            parts.append((name.lower(), content))
    return "".join(_bytes_decoded(content, name) for name, content in parts)


def _word_bytes(encoding: str, encoded: str) -> bytes:
    raw = encoded.encode("utf-8", "replace")
    if encoding in "qQ":
        return quopri.decodestring(raw.replace(b"_", b"=20"))
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return raw
