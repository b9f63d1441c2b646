"""The configuration of a pack from its environment."""

import ipaddress
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from flyteops.errors import Problem, SettingsError
from flyteops.timeformat import parse_seconds

T = TypeVar("T")
D = TypeVar("D")

_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The address of the server, and the identity of this instance of a pack."""

    api: str
    labels: dict[str, str] = {}
    token: str | None = None
    token_file: Path | None = None
    timeout: float | None = 10.0
    ca_cert_file: Path | None = None
    name: str | None = None
    health_port: int | msgspec.UnsetType | None = msgspec.UNSET
    health_host: str | None = None
    poll_interval: float | msgspec.UnsetType = msgspec.UNSET
    stop_timeout: float | msgspec.UnsetType = msgspec.UNSET
    log_level: str = "info"

    def __repr__(self) -> str:
        return f"Environment(api={self.api!r}, name={self.name!r}, labels={self.labels!r})"

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Environment":
        """Read the variables; raise `SettingsError` with every fault at once."""
        reader = Reader(environ)
        environment = cls(
            api=_read_api(reader),
            labels=reader.read("FLYTE_LABELS", labels, {}),
            token=reader.read_secret("FLYTE_JWT", token, None),
            token_file=_path(environ.get("FLYTE_JWT_FILE", "")),
            timeout=reader.read("FLYTE_API_TIMEOUT", _timeout, 10.0),
            ca_cert_file=reader.read("FLYTE_CA_CERT_FILE", certificates, None),
            name=reader.read("PACK_NAME", str.strip, None),
            health_port=reader.read("FLYTE_PACK_HEALTH_PORT", _port, msgspec.UNSET),
            health_host=reader.read("FLYTE_PACK_HEALTH_HOST", _host, None),
            poll_interval=reader.read("FLYTE_PACK_POLL_INTERVAL", seconds, msgspec.UNSET),
            stop_timeout=reader.read("FLYTE_PACK_STOP_TIMEOUT", seconds, msgspec.UNSET),
            log_level=reader.read("LOGLEVEL", _log_level, "info"),
        )
        reader.finish()
        return environment


class Reader:
    """Read variables one by one and collect the faults; for the settings of a pack itself."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []

    def read(self, name: str, parse: Callable[[str], T], default: D) -> T | D:
        """Return the parsed value, or `default` if the variable is absent, blank or invalid.

        `parse` raises `ValueError` with a sentence that describes the expected value.
        """
        text = self.environ.get(name, "")
        if not text.strip():
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(Problem(name, str(error)))
            return default

    def read_secret(self, name: str, parse: Callable[[str], T], default: D) -> T | D:
        """Return the parsed value of a variable, or of the file that `NAME_FILE` names.

        Faults never show the value.
        """
        path = self.environ.get(f"{name}_FILE", "").strip()
        if not path:
            return self.read(name, parse, default)
        if self.environ.get(name, "").strip():
            self.problems.append(
                Problem(f"{name}_FILE", f"{name} is set as well; unset one of them")
            )
            return default
        try:
            return parse(Path(path).read_text(encoding="utf-8").rstrip("\r\n"))
        except OSError as error:
            self.problems.append(
                Problem(f"{name}_FILE", f"cannot read {path!r}: {error.strerror or error}")
            )
        except UnicodeDecodeError:
            self.problems.append(Problem(f"{name}_FILE", f"{path!r} is not text"))
        except ValueError as error:
            self.problems.append(Problem(f"{name}_FILE", str(error)))
        return default

    def require(self, name: str, parse: Callable[[str], T], what: str, default: T) -> T:
        """Return the parsed value.

        An absent or blank variable is a fault whose message contains `what`.
        """
        if not self.environ.get(name, "").strip():
            self.problems.append(Problem(name, f"is not set: {what}"))
            return default
        return self.read(name, parse, default)

    def finish(self) -> None:
        """Raise `SettingsError` if there was any fault."""
        if self.problems:
            raise settings_error(self.problems)


def settings_error(problems: list[Problem]) -> SettingsError:
    """Return the error that shows each problem on a line of its own."""
    lines = "".join(f"\n  {problem}" for problem in problems)
    return SettingsError(f"the environment is not valid:{lines}", problems=problems)


def seconds(text: str) -> float:
    """Read a duration such as `90`, `30s`, `5m`, `1h30m` or `2d`."""
    try:
        return parse_seconds(text).total_seconds()
    except ValueError as error:
        message = f"{text!r} is not a duration such as 30s, 5m or 1h30m"
        raise ValueError(message) from error


def positive_seconds(text: str) -> float:
    """Read a duration longer than zero."""
    duration = seconds(text)
    if duration <= 0:
        message = f"{text!r} is not longer than zero"
        raise ValueError(message)
    return duration


def byte_count(text: str) -> int:
    """Read a number of bytes."""
    if not text.strip().isdecimal():
        message = f"{text!r} is not a number of bytes"
        raise ValueError(message)
    return int(text)


def flag(text: str) -> bool:
    """Read `true` or `false`."""
    value = {"true": True, "false": False}.get(text.strip().lower())
    if value is None:
        message = f"{text!r} is neither true nor false"
        raise ValueError(message)
    return value


def labels(text: str) -> dict[str, str]:
    """Read `key=value,key=value`.

    Blanks around keys and values are ignored, a value may contain `=`.
    """
    found: dict[str, str] = {}
    for piece in text.split(","):
        key, equals, value = piece.partition("=")
        if not equals or not key.strip():
            message = f"{piece.strip()!r} is not of the form key=value"
            raise ValueError(message)
        found[key.strip()] = value.strip()
    return found


def _read_api(reader: Reader) -> str:
    name = next(
        (name for name in ("FLYTE_API", "FLYTE_API_URL") if reader.environ.get(name, "").strip()),
        None,
    )
    return reader.require(
        name or "FLYTE_API", api_url, "the server's address, such as http://localhost:8080", ""
    )


def api_url(text: str) -> str:
    """Read the server's address, without a trailing slash or `/v1`; a path in front is kept."""
    url = text.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = f"{text!r} is not an address such as http://localhost:8080"
        raise ValueError(message)
    _ = parts.port  # raises ValueError itself
    return url


def token(text: str) -> str:
    """Read a token."""
    if not text.strip():
        message = "is empty; expected a token"
        raise ValueError(message)
    if not re.fullmatch(r"[\x21-\x7e]+", text.strip()):
        message = "is not a token: it contains characters that a token cannot have"
        raise ValueError(message)
    return text.strip()


def _path(text: str) -> Path | None:
    return Path(text.strip()) if text.strip() else None


def _timeout(text: str) -> float | None:
    if not re.fullmatch(r"\s*\d{1,9}\s*", text):
        message = f"{text!r} is not a number of whole seconds (0 means no limit)"
        raise ValueError(message)
    return float(text) or None


def _port(text: str) -> int | None:
    if text.strip().lower() in ("off", "0"):
        return None
    if not re.fullmatch(r"\s*\d{1,5}\s*", text) or int(text) > 65535:
        message = f"{text!r} is neither a port from 1 to 65535 nor off"
        raise ValueError(message)
    return int(text)


def _host(text: str) -> str:
    host = text.strip().removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host) and not _is_address(host):
        message = (
            f"{text!r} is not an address of this machine: 127.0.0.1, 0.0.0.0 for all of them, or a"
            " name without a port"
        )
        raise ValueError(message)
    return host


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def certificates(text: str) -> Path:
    """Read the path of a PEM file; a file without readable certificates is refused."""
    path = Path(text.strip())
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # includes ssl.SSLError
        message = f"cannot read certificates from {str(path)!r}: {error.strerror or error}"
        raise ValueError(message) from error
    return path


def _log_level(text: str) -> str:
    level = text.strip().lower()
    if level not in _LOG_LEVELS:
        message = f"{text!r} is not one of {', '.join(_LOG_LEVELS)}"
        raise ValueError(message)
    return level


def configure_logging(level: str) -> None:
    """Send log lines to standard error, unless the program has configured logging already."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    if level != "debug":
        logging.getLogger("httpx2").setLevel(logging.WARNING)
