"""Connection URIs of PostgreSQL, as libpq and hosted services write them.

The grammar and the names of the options are those of libpq ("Connection Strings" and "Parameter Key
Words" in the PostgreSQL documentation). The driver knows some of these options; the others are read
here. Messages never repeat the URI, as it may hold a password.
"""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlencode

import msgspec

DEFAULT_PORT = 5432
DEFAULT_CONNECT_TIMEOUT = 5.0

TLS_OPTIONS = (
    "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
"""Options that the driver reads from a URI only."""

UNREADABLE = (
    "has a port that is not a number from 1 to 65535; in a user name or password, ? must be"
    " percent-encoded, as %3F"
)

TLS_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

SESSIONS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")

DRIVER_OPTIONS = ("passfile", "service", "krbsrvname", "gsslib")
"""Options that the driver takes as arguments, besides `target_session_attrs`."""

WITHOUT_EFFECT = (
    "sslsni",
    "sslcompression",
    "sslcertmode",
    "gssencmode",
    "gssdelegation",
    "fallback_application_name",
    "client_encoding",
)
"""Options of libpq without effect: the driver always sends the host's name, and text as UTF-8."""

FOREIGN: Mapping[str, str] = {
    "ssl": "sslmode=require",
    "schema": "search_path=NAME",
    "currentSchema": "search_path=NAME",
    "connection_limit": "FLYTE_STORE_POOL_SIZE",
    "pool_size": "FLYTE_STORE_POOL_SIZE",
    "max_connections": "FLYTE_STORE_POOL_SIZE",
    "pool_timeout": "connect_timeout=SECONDS",
    "pgbouncer": "FLYTE_STORE_DIRECT_URL with the address of the database itself",
    "prepared_statements": "FLYTE_STORE_DIRECT_URL with the address of the database itself",
    "require_auth": "sslmode=verify-full",
    "requirepeer": "sslmode=verify-full",
    "hostaddr": "the address in place of the host's name",
    "replication": "",
}
"""Options of other drivers, and unsupported ones of libpq, with their replacement, if any."""


class Keepalive(msgspec.Struct, frozen=True):
    """TCP keepalive of a connection; times in seconds, None for the system's own."""

    is_on: bool = True
    idle: int | None = None
    interval: int | None = None
    count: int | None = None
    user_timeout: int | None = None
    """Milliseconds."""


class Host(NamedTuple):
    """A server's name, address or socket directory, and its port."""

    name: str
    port: int


class Conninfo(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed connection URI. `settings` are parameters of the server, such as ``search_path``."""

    hosts: tuple[Host, ...] = ()
    user: str | None = None
    password: str | None = None
    database: str | None = None
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    keepalive: Keepalive = Keepalive()
    is_shuffled: bool = False
    binds_channel: bool = False
    tls: Mapping[str, str] = {}
    driver: Mapping[str, str] = {}
    startup: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}

    @property
    def uses_system_roots(self) -> bool:
        """Whether certificates are verified with the authorities of the operating system."""
        return self.tls.get("sslrootcert") == "system"

    @property
    def verifies_host(self) -> bool:
        """Whether a trusted authority must have issued the server's certificate for its host."""
        return self.uses_system_roots or self.tls.get("sslmode") == "verify-full"

    @property
    def tls_uri(self) -> str:
        """A URI that holds the TLS options alone, "" when there are none."""
        return "postgresql://?" + urlencode(dict(self.tls)) if self.tls else ""

    def hide(self, text: str) -> str:
        """Return a message without the passwords of this URI."""
        for secret in (self.password, self.tls.get("sslpassword")):
            if secret:
                text = text.replace(secret, "***")
        return text


def parse_conninfo(uri: str) -> Conninfo:
    """Return the parsed URI; raise a `ValueError` that names the first faulty option."""
    parser = _Parser(uri)
    if parser.faults:
        raise ValueError(parser.faults[0])
    return parser.result()


def conninfo_faults(uri: str) -> Iterator[str]:
    """Yield every fault of a URI that shows without connecting, including files that it names."""
    parser = _Parser(uri)
    yield from parser.faults
    if not parser.faults:
        yield from _file_faults(parser.tls)


def _file_faults(tls: Mapping[str, str]) -> Iterator[str]:
    for option in TLS_FILES:
        path = tls.get(option, "")
        if not path or (option == "sslrootcert" and path == "system"):
            continue
        try:
            Path(path).read_bytes()
        except OSError as error:
            yield f"names the {option} {path!r}, which cannot be read: {error.strerror}"
            continue
        if option in ("sslrootcert", "sslcrl"):
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except ssl.SSLError:
                yield f"names the {option} {path!r}, which holds no certificate in PEM form"


class _Parser:
    """Reads a URI, and collects its faults."""

    def __init__(self, uri: str) -> None:
        self.faults: list[str] = []
        account, self.place, path, query = _split(uri)
        self.options = self._options(query)
        user, _, password = account.partition(":")
        self.database = self._text("dbname", "database") or unquote(path) or None
        self.user = self._text("user") or unquote(user) or None
        self.password = self._text("password") or unquote(password) or None
        self.hosts = self._hosts(self.place, self._text("host"), self._text("port"))
        self.connect_timeout = self._number("connect_timeout") or DEFAULT_CONNECT_TIMEOUT
        self.keepalive = Keepalive(
            is_on=self._number("keepalives") != 0,
            idle=self._number("keepalives_idle") or None,
            interval=self._number("keepalives_interval") or None,
            count=self._number("keepalives_count") or None,
            user_timeout=self._number("tcp_user_timeout") or None,
        )
        self.is_shuffled = self._choice("load_balance_hosts", "disable", "random") == "random"
        self.binds_channel = (
            self._choice("channel_binding", "disable", "prefer", "require") == "require"
        )
        self.tls = self._tls()
        sessions = self._choice("target_session_attrs", *SESSIONS)
        self.driver = self._pop(DRIVER_OPTIONS)
        if sessions:
            self.driver["target_session_attrs"] = sessions
        self.startup = self._pop(("application_name", "options"))
        self._check_without_effect()
        self._check_foreign()
        if UNREADABLE in self.faults:
            self.faults = [UNREADABLE]  # the others follow from it

    def result(self) -> Conninfo:
        return Conninfo(
            hosts=self.hosts,
            user=self.user,
            password=self.password,
            database=self.database,
            connect_timeout=self.connect_timeout,
            keepalive=self.keepalive,
            is_shuffled=self.is_shuffled,
            binds_channel=self.binds_channel,
            tls=self.tls,
            driver=self.driver,
            startup=self.startup,
            settings=self.options,
        )

    def _options(self, query: str) -> dict[str, str]:
        options = {}
        for part in filter(None, query.split("&")):
            name, equals, value = part.partition("=")
            if not equals:
                self.faults.append("has options that are not in the form name=value&name=value")
            options[unquote(name)] = unquote(value)
        return options

    def _pop(self, names: tuple[str, ...]) -> dict[str, str]:
        return {name: self.options.pop(name) for name in names if name in self.options}

    def _text(self, *names: str) -> str:
        found = [self.options.pop(name, "") for name in names]
        return next((text for text in found if text), "")

    def _number(self, name: str) -> int | None:
        text = self.options.pop(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 8):
            self.faults.append(f"has an option {name} that is not a whole number")
            return None
        return int(text)

    def _choice(self, name: str, *choices: str) -> str:
        text = self.options.pop(name, "")
        if text and text not in choices:
            self.faults.append(f"has an option {name} that is not one of {', '.join(choices)}")
        return text

    def _hosts(self, place: str, named: str, ports: str) -> tuple[Host, ...]:
        places = [_host_and_port(each) for each in place.split(",")] if place else []
        if named:
            places = list(zip(named.split(","), _ports(places), strict=False))
        own_ports = ports.split(",") if ports else []
        if len(own_ports) > 1 and len(own_ports) != max(1, len(places)):
            self.faults.append(f"names {len(own_ports)} ports for {max(1, len(places))} hosts")
            return ()
        if not places and own_ports:
            places = [("localhost", "")]
        return tuple(
            Host(unquote(name), self._port(_port_of(number, port, own_ports)))
            for number, (name, port) in enumerate(places)
        )

    def _port(self, text: str) -> int:
        if text and not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
            self.faults.append(UNREADABLE)
            return DEFAULT_PORT
        return int(text) if text else DEFAULT_PORT

    def _tls(self) -> dict[str, str]:
        tls = {name: value for name, value in self._pop(TLS_OPTIONS).items() if value}
        mode = tls.get("sslmode", "")
        if mode and mode not in SSL_MODES:
            self.faults.append(f"has an option sslmode that is not one of {', '.join(SSL_MODES)}")
        if tls.get("sslrootcert") == "system" and mode not in ("", "verify-full"):
            self.faults.append("has sslrootcert=system, which needs sslmode=verify-full")
        if self.binds_channel and mode in ("disable", "allow", "prefer"):
            self.faults.append(
                f"has channel_binding=require with sslmode={mode}; it needs sslmode=require or a"
                " stricter one"
            )
        if self.binds_channel and not mode and tls.get("sslrootcert") != "system":
            tls["sslmode"] = "require"
        return tls

    def _check_without_effect(self) -> None:
        if self.options.get("gssencmode") == "require":
            self.faults.append(
                "has gssencmode=require, but GSSAPI encryption is not supported; encrypt with"
                " sslmode=verify-full"
            )
        for name in WITHOUT_EFFECT:
            self.options.pop(name, None)

    def _check_foreign(self) -> None:
        for name in [name for name in self.options if name in FOREIGN]:
            self.options.pop(name)
            advice = f"use {FOREIGN[name]}" if FOREIGN[name] else "remove it"
            self.faults.append(f"has an option {name} that Flyte does not support; {advice}")


def _split(uri: str) -> tuple[str, str, str, str]:
    """Return credentials, hosts, path and query.

    The last @ ends the credentials, so that a password may hold unencoded / and @.
    """
    head, _, query = uri.partition("://")[2].partition("?")
    account, _, rest = head.rpartition("@")
    place, _, path = rest.partition("/")
    return account, place, path, query


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = text.partition(":")
    return name, port


def _ports(places: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the ports of the authority, then none for any further hosts."""
    yield from (port for _, port in places)
    while True:
        yield ""


def _port_of(number: int, own: str, ports: list[str]) -> str:
    if own or not ports:
        return own
    return ports[0] if len(ports) == 1 else ports[number]


def shown_uri(uri: str) -> str:
    """Return a URI as is safe to show: user, hosts and database, without password and options."""
    parser = _Parser(uri)
    scheme = uri.partition("://")[0]
    if UNREADABLE in parser.faults:
        return f"{scheme}://..."  # a password that is not encoded may stand anywhere
    user = f"{parser.user}@" if parser.user else ""
    place = parser.place or ",".join(host.name for host in parser.hosts)
    return f"{scheme}://{user}{place}/{parser.database or ''}"
