"""URLs in settings: stores, web origins and issuers. Each parser raises `ValueError` with how to fix the text."""

import re
from urllib.parse import urlsplit


def parse_origins(value: str) -> tuple[str, ...]:
    """Read web origins, separated by commas."""
    found = tuple(item.strip().rstrip("/") for item in value.split(",") if item.strip())
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise ValueError(f"holds {origin!r}, which is not an origin; give scheme and host, such as https://ops.example.com")
    return found


def parse_issuer(value: str) -> str:
    """Read the address of an OpenID provider, kept as it is: tokens must name it exactly so."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not the address of an OpenID provider; give one such as https://login.example.com/realm")
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
            raise ValueError("names no database; give postgresql://user:password@host:5432/database")
        return value
    if not re.fullmatch(r"sqlite:///.+", value):
        raise ValueError(
            "is not a store; give sqlite:///relative.db, sqlite:////absolute/path.db, postgresql://user:password@host/database"
            " or mongodb://user:password@host/database"
        )
    return value


def parse_mongodb(value: str) -> str:
    """Read the address of a MongoDB server: a URL, or what follows the ``//`` of one."""
    url = value if "://" in value else f"mongodb://{value}"
    if not re.fullmatch(r"mongodb(\+srv)?://(\S+@)?[^\s/?#@]+(/\S*|\?\S*)?", url):
        raise ValueError("is not a MongoDB server; give host:port, or mongodb://user:password@host:27017/flyte")
    return url


def without_password(value: str) -> str:
    """Return what was given as it may be shown to anybody."""
    value = re.sub(r"([?&](?:ssl)?password=)[^&\s]*", r"\1***", value)
    return re.sub(r"((?:^(?!\S*://)|://)[^:/?#\s]*):\S*@", r"\1:***@", value)


def parse_direct_url(value: str) -> str:
    """Read the address of a PostgreSQL database."""
    if value.partition(":")[0].lower() not in ("postgresql", "postgres"):
        raise ValueError("is not a PostgreSQL database; give postgresql://user:password@host:5432/database")
    return parse_store(value)
