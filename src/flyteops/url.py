"""URLs in settings: stores, web origins and issuers.

Each parser raises `ValueError` with advice on how to fix the text.
"""

import re
from urllib.parse import unquote, urlsplit


def parse_origins(value: str) -> tuple[str, ...]:
    """Read web origins, separated by commas."""
    found = tuple(item.strip().rstrip("/") for item in value.split(",") if item.strip())
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise ValueError(
                f"holds {origin!r}, which is not an origin; give scheme and host, such as"
                " https://ops.example.com"
            )
    return found


def parse_issuer(value: str) -> str:
    """Read the address of an OpenID provider, unchanged: tokens must name it exactly."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            "is not the address of an OpenID provider; give one such as"
            " https://login.example.com/realm"
        )
    return value


def parse_store(value: str) -> str:
    """Read the address of a store."""
    scheme = value.partition(":")[0].lower()
    if scheme in ("mongodb", "mongodb+srv"):
        return parse_mongodb(value)
    if scheme in ("postgresql", "postgres"):
        rest, _, options = value.partition("://")[2].partition("?")
        path = rest.rpartition("@")[2].partition("/")[2]
        if not path and not re.search(r"(^|&)(dbname|database|service)=.", options):
            raise ValueError(
                "names no database; give postgresql://user:password@host:5432/database"
            )
        return value
    if not re.fullmatch(r"sqlite:///.+", value):
        raise ValueError(
            "is not a store; give sqlite:///relative.db, sqlite:////absolute/path.db,"
            " postgresql://user:password@host/database or mongodb://user:password@host/database"
        )
    return value


def parse_mongodb(value: str) -> str:
    """Read the address of a MongoDB server: a URL, or the part of one after the ``//``."""
    url = value if "://" in value else f"mongodb://{value}"
    if not re.fullmatch(r"mongodb(\+srv)?://(\S+@)?[^\s/?#@]+(/\S*|\?\S*)?", url):
        raise ValueError(
            "is not a MongoDB server; give host:port, or mongodb://user:password@host:27017/flyte"
        )
    return url


ORIGINAL = "flyte"
"""The database that the original always uses."""


class OriginalUrl(str):
    """The URL of an existing installation's MongoDB server, with the database of the original.

    `named_database` is the one in the given URL, if that is another.
    """

    __slots__ = ("named_database",)
    named_database: str

    def __new__(cls, url: str, named_database: str) -> "OriginalUrl":
        """Return the URL."""
        made = super().__new__(cls, url)
        made.named_database = named_database
        return made


def parse_original(value: str) -> str:
    """Read the address of an existing installation's MongoDB server, as the original's driver does.

    Its path is the database in which the user is known, unless the option `authSource` names one.
    `connect=direct` uses this server alone, and any other `connect` all members of its replica set,
    as is usual here.
    """
    head, path, options = _divided(parse_mongodb(value))
    named = unquote(path)
    chosen = [each for each in options.split("&") if each and not each.startswith("connect=")]
    if "connect=direct" in options.split("&"):
        chosen.append("directConnection=true")
    if named in ("", ORIGINAL):
        return _joined(head, path, chosen)
    if "@" in head and not any(each.lower().startswith("authsource=") for each in chosen):
        chosen.append(f"authSource={path}")
    return OriginalUrl(_joined(head, ORIGINAL, chosen), named)


def _divided(url: str) -> tuple[str, str, str]:
    """Return scheme, user and hosts of a URL, its path and its options."""
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@") if "@" in rest.partition("?")[0] else ("", "", rest)
    place, _, options = place.partition("?")
    hosts, _, path = place.partition("/")
    return f"{scheme}://{user}{at}{hosts}", path, options


def _joined(head: str, path: str, options: list[str]) -> str:
    slash = "/" if path or options else ""
    return f"{head}{slash}{path}{'?' if options else ''}{'&'.join(options)}"


def without_password(value: str) -> str:
    """Return the given text without its password, safe to show."""
    value = re.sub(r"(?i)([?&](?:ssl)?password=)[^&\s]*", r"\1***", value)
    # libpq's other notation: keywords and values, quoted if they hold blanks.
    value = re.sub(
        r"(?i)((?:^|\s)(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|(?:\\.|[^\s\\])*)",
        r"\1***",
        value,
    )
    return re.sub(r"((?:^(?!\S*://)|://)[^:/?#\s]*):\S*@", r"\1:***@", value)


def parse_direct_url(value: str) -> str:
    """Read the address of a PostgreSQL database."""
    if value.partition(":")[0].lower() not in ("postgresql", "postgres"):
        raise ValueError(
            "is not a PostgreSQL database; give postgresql://user:password@host:5432/database"
        )
    return parse_store(value)
