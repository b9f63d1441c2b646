"""Charset names in practice: the supersets that programs write under them (Encoding Standard).

A mail labelled `gb2312` contains GBK, one labelled `iso-8859-1` contains Windows-1252, and one
labelled `us-ascii` may contain anything. Every content can be decoded.
"""

import codecs
import re

_C1 = range(0x80, 0xA0)
_WINDOWS_1252 = {code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in _C1}

_ASCII = "usascii ascii ansix341968 ansix341986 iso646us iso646irv1991 us cp367 ibm367 isoir6 646"
_LATIN_1 = "latin1 isolatin1 l1 iso88591 iso885911987 cp819 ibm819 isoir100"
_CODECS = {
    "cp1252": "windows1252 cp1252 ansi",
    "cp1254": "windows1254 latin5 isolatin5 l5 iso88599 iso885991989 isoir148",
    "cp874": "tis620 dos874 iso885911 iso8859112001",
    "gb18030": "gb2312 gb231280 gbk gb18030 chinese iso58gb231280 isoir58 euccn cp936 ms936",
    "big5hkscs": "big5 big5hkscs cnbig5 xbig5 cp950 ms950 big5eten big5tw",
    "cp949": "euckr ksc56011987 ksc56011989 ksc5601 korean cp949 uhc isoir149 ms949",
    "cp932": "shiftjis sjis mskanji windows31j ms932 cp932 xsjis",
    "euc_jp": "eucjp ujis eucpkdfmtjapanese",
    "iso2022_jp_ext": "iso2022jp iso2022jpms cp50220 cp50221 jis",
    "koi8_u": "koi8u koi8ru",
    "koi8_r": "koi8r koi koi8",
    "mac_roman": "macintosh mac macroman",
    "mac_cyrillic": "maccyrillic macukrainian",
    "utf_8": "utf8 unicode11utf8 unicode20utf8 utf8mb4 utf8mac",
    "utf_16_le": "utf16 utf16le unicode ucs2 iso10646ucs2 unicodefeff",
    "utf_16_be": "utf16be unicodefffe",
    "utf_7": "utf7 unicode11utf7",
    "iso8859_6": "iso88596i iso88596e arabic",
    "iso8859_8": "iso88598i iso88598e logical visual",
    "cp862": "dos862 ibm862",
}
_BY_NAME = {name: codec for codec, names in _CODECS.items() for name in names.split()}
_GUESSED = frozenset(
    f"{_ASCII} {_LATIN_1} unknown unknown8bit xunknown 8bit binary default none".split()
) | {""}
"""Names that programs write without knowing the charset."""

_UNKNOWN = "?"

_ISO_8859 = re.compile(r"iso8859(\d{1,2})(?:19\d\d|20\d\d)?")
_WINDOWS = re.compile(r"(?:cp|windows|win|ms|ansi)(125\d|874|93[26]|949|950)")
_FURTHER = {
    "euc_jp": ("euc_jis_2004",),
    "big5hkscs": ("cp950",),
}
_NO_CHARSETS = frozenset(
    [
        "idna",
        "punycode",
        "unicode-escape",
        "unicode_escape",
        "raw-unicode-escape",
        "raw_unicode_escape",
        "undefined",
    ]
)
_MARKS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
)


def decode(content: bytes, name: str) -> str:
    """Decode a content by the name of its charset; invalid bytes become replacement characters.

    Unreliable names (`us-ascii`, `iso-8859-1`, none) mean UTF-8 if it is that, or else
    Windows-1252.
    """
    text = decode_if_valid(content, name)
    if text is not None:
        return text
    codec = _codec(name)
    return str(content.decode("utf_8" if codec == _UNKNOWN else codec, "replace"))


def decode_if_valid(content: bytes, name: str) -> str | None:
    """Decode a content if it is valid in that charset.

    None if it is not, or if the name is not known.
    """
    for mark, marked in _MARKS:
        if content.startswith(mark) and "32" not in name:
            return content[len(mark) :].decode(marked, "replace")
    codec = _codec(name)
    if not codec:
        return decode_without_charset(content)
    if codec == "cp1252":
        return _windows_1252(content)
    for each in () if codec == _UNKNOWN else (codec, *_FURTHER.get(codec, ())):
        try:
            return str(content.decode(each))
        except ValueError:
            continue
    return _japanese(content) if codec == "iso2022_jp_ext" else None


def decode_without_charset(content: bytes) -> str:
    """Decode a content without a charset: UTF-8 if it is that, or else Windows-1252."""
    try:
        return content.decode()
    except ValueError:
        return _windows_1252(content)


def _windows_1252(content: bytes) -> str:
    return content.decode("latin-1").translate(_WINDOWS_1252)


def _codec(name: str) -> str:
    """Return the codec for a name, "" for one without a meaning, and `_UNKNOWN`."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for key in (plain, plain.removeprefix("x"), plain.removeprefix("cs")):
        if key in _GUESSED:
            return ""
        if key in _BY_NAME:
            return _BY_NAME[key]
        if windows := _WINDOWS.fullmatch(key):
            return _BY_NAME.get(f"cp{windows[1]}", f"cp{windows[1]}")
        if part := _ISO_8859.fullmatch(key):
            return _python_codec(f"iso8859-{part[1]}") or _UNKNOWN
    return _python_codec(name) or _python_codec(plain.removeprefix("cs")) or _UNKNOWN


def _python_codec(name: str) -> str:
    try:
        found = codecs.lookup(name.strip())
        is_text = isinstance(b"x".decode(found.name, "replace"), str)
    except (LookupError, ValueError, TypeError):
        return ""
    return found.name if is_text and found.name not in _NO_CHARSETS else ""


_ESCAPE = re.compile(rb"\x1b(\$[@B]|\([BJI])")


def _japanese(content: bytes) -> str:
    """Decode ISO-2022-JP with the characters that Windows adds to JIS X 0208."""
    first, *others = _ESCAPE.split(content)
    parts = [first.decode("ascii", "replace")]
    for escape, text in zip(others[::2], others[1::2], strict=True):
        if escape in (b"$B", b"$@"):
            parts.append(
                b"".join(map(_shift_jis, text[::2], text[1::2])).decode("cp932", "replace")
            )
        elif escape == b"(I":
            parts.append(bytes(code | 0x80 for code in text).decode("cp932", "replace"))
        else:
            parts.append(text.decode("ascii", "replace"))
    return "".join(parts)


def _shift_jis(row: int, cell: int) -> bytes:
    """Return a character of JIS X 0208 as Shift JIS."""
    if not (0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E):
        return bytes([code for code in (row, cell) if code < 0x80])
    lead = (row - 0x21) // 2 + (0x81 if row < 0x5F else 0xC1)
    if row % 2:
        return bytes([lead, cell + (0x1F if cell < 0x60 else 0x20)])
    return bytes([lead, cell + 0x7E])
