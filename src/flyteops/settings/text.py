"""Parsers of settings that are neither numbers nor addresses.

Each takes the text of a setting and raises `ValueError` with the fault and how to fix it.
"""

import re

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def parse_text(value: str) -> str:
    """Return the text unchanged."""
    return value


def parse_path(value: str) -> str:
    """Read the path of a file; its existence is checked when it is opened."""
    if "\0" in value:
        raise ValueError("is not a path: it holds a zero byte")
    return value


def parse_host(value: str) -> str:
    """Read an address or a host name, without a port."""
    bare = value.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+(%\w+)?", bare):
        raise ValueError(
            "is not an address; give one such as 127.0.0.1, ::1 or 0.0.0.0, and the port with"
            " FLYTE_PORT"
        )
    return bare


def parse_flag(value: str) -> bool:
    """Read a truth value."""
    known = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    if value.lower() not in known:
        raise ValueError("is neither true nor false; give one of them")
    return known[value.lower()]


def parse_log_level(value: str) -> str:
    """Read a log level, in any case."""
    level = {"warn": "warning", "fatal": "critical", "trace": "debug"}.get(
        value.lower(), value.lower()
    )
    if level not in LOG_LEVELS:
        raise ValueError(f"is not a log level; give one of {', '.join(LOG_LEVELS)}")
    return level


def parse_auth(value: str) -> str:
    """Read the kind of authentication used besides an OpenID provider."""
    if value.lower() != "tokens":
        raise ValueError("is not known; give tokens, or leave it out")
    return value.lower()


def parse_keys(value: str) -> tuple[str, ...]:
    """Read keys for secrets, separated by commas or white space, the newest first.

    Each has 32 bytes, in URL-safe base64.
    """
    keys = tuple(re.split(r"[,\s]+", value.strip()))
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", key) for key in keys):
        raise ValueError("is not a list of keys for secrets; `flyte data new-key` makes one")
    return keys
