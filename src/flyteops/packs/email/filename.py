"""File names from strangers, made safe to write into a folder."""

import re
import unicodedata

NAMELESS = "attachment"

_MAX_LENGTH = 200
"""Maximum number of bytes of a name that are kept; file systems have 255, and programs add to
it."""

_FORBIDDEN = re.compile(r'[<>:"|?*]')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)",
    re.IGNORECASE,
)


def safe_filename(name: str) -> str:
    """Return the last part of a path without special characters and names; "" only for "".

    No control or formatting characters, nothing that Windows forbids, no blanks or dots at the end,
    no name of a device.
    """
    if not name.strip():
        return ""
    seen = "".join(
        letter for letter in name if letter.isspace() or unicodedata.category(letter)[0] != "C"
    )
    last = " ".join(seen.split()).replace("\\", "/").rpartition("/")[2]
    safe = _FORBIDDEN.sub("_", last).strip().rstrip(". ")
    if not unicodedata.normalize("NFKC", safe).strip("._- "):
        return NAMELESS
    return _cut(f"_{safe}" if _RESERVED.match(safe) else safe)


def _cut(name: str) -> str:
    """Shorten a name that is too long, keeping its extension."""
    if len(name.encode()) <= _MAX_LENGTH:
        return name
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > 20:
        stem, dot, ending = name, "", ""
    room = _MAX_LENGTH - len(f"{dot}{ending}".encode())
    return f"{stem.encode()[:room].decode('utf-8', 'ignore').rstrip('. ')}{dot}{ending}"
