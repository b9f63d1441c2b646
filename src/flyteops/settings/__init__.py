"""Every setting of the server, defined once: the fields of `Settings` are the table.

The options of `flyte serve`, its help, the reference page and the validation are made from it.
Nothing here reads the file system or the real environment: the variables are a mapping given by the
caller.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Self, TypeVar, get_type_hints

import msgspec

from flyteops.errors import Problem, SettingsError
from flyteops.network import PackNetwork, parse_pack_networks
from flyteops.number import (
    parse_clock_time,
    parse_count,
    parse_disk,
    parse_pause,
    parse_period,
    parse_pool_size,
    parse_port,
    parse_size,
    parse_workers,
)
from flyteops.settings.text import (
    LOG_LEVELS,
    parse_auth,
    parse_flag,
    parse_host,
    parse_keys,
    parse_log_level,
    parse_path,
    parse_text,
)
from flyteops.url import (
    parse_direct_url,
    parse_issuer,
    parse_original,
    parse_origins,
    parse_store,
    without_password,
)

T = TypeVar("T")

PACK_VARIABLES = (
    "FLYTE_API",
    "FLYTE_API_URL",
    "FLYTE_API_TIMEOUT",
    "FLYTE_CA_CERT_FILE",
    "FLYTE_EXAMPLES",
    "FLYTE_JWT",
    "FLYTE_JWT_FILE",
    "FLYTE_LABELS",
)
PACK_PREFIXES = ("FLYTE_PACK_", "FLYTE_CHAT_", "FLYTE_SHELL_", "FLYTE_TICKER_")
"""Variables of packs and of the command line, which the server does not read."""


class Setting(msgspec.Struct, frozen=True):
    """One setting: its variable, the parser of its text, and its meaning.

    `metavar` stands for the value in help; `shown` is the default in words where the value itself
    is not clear. The value of one that `is_secret` is not repeated in messages.
    """

    variable: str
    parse: Callable[[str], Any]
    help: str
    group: str
    metavar: str = "TEXT"
    shown: str | None = None
    is_secret: bool = False


NETWORK, STORE, PACKS, LOGGING = "Network", "Store", "Packs", "Logging"
AUTH = "Authentication and authorization"
STOPS = (
    "How long a server continues to serve after SIGTERM, with /health/ready at 503, before its port"
    " closes."
)
IDLE = (
    "How long a connection without a request is kept open. A proxy in front must close its idle"
    " connections sooner."
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of the server. The defaults are those of an empty environment."""

    host: Annotated[
        str,
        Setting(
            "FLYTE_HOST",
            parse_host,
            "The address to listen on. Without auth, anyone who can connect can run commands in"
            " your packs.",
            NETWORK,
            "ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Setting(
            "FLYTE_PORT",
            parse_port,
            "The port to listen on; 0 takes any free one.",
            NETWORK,
            "PORT",
            shown="8080; 8443 with TLS",
        ),
    ] = 8080
    tls_cert_path: Annotated[
        str | None,
        Setting(
            "FLYTE_TLS_CERT_PATH",
            parse_path,
            "The PEM file of the TLS certificate, the server's own first, then those that issued"
            " it; needs the key too. New files are taken over within seconds.",
            NETWORK,
            "FILE",
        ),
    ] = None
    tls_key_path: Annotated[
        str | None,
        Setting(
            "FLYTE_TLS_KEY_PATH",
            parse_path,
            "The PEM file of the certificate's private key.",
            NETWORK,
            "FILE",
        ),
    ] = None
    workers: Annotated[
        int,
        Setting(
            "FLYTE_WORKERS",
            parse_workers,
            "How many server processes share the port on this machine, which needs a store that"
            " several servers may share.",
            NETWORK,
            "NUMBER",
        ),
    ] = 1
    shutdown_delay: Annotated[
        timedelta,
        Setting("FLYTE_SHUTDOWN_DELAY", parse_pause, STOPS, NETWORK, "SECONDS", shown="0"),
    ] = timedelta(0)
    idle_timeout: Annotated[
        timedelta,
        Setting("FLYTE_IDLE_TIMEOUT", parse_period, IDLE, NETWORK, "SECONDS", shown="75"),
    ] = timedelta(seconds=75)
    max_body_bytes: Annotated[
        int,
        Setting(
            "FLYTE_MAX_BODY_BYTES",
            parse_size,
            "The largest request body that is accepted, datastore items included.",
            NETWORK,
            "BYTES",
        ),
    ] = 10 * 1024 * 1024
    max_connections: Annotated[
        int | None,
        Setting(
            "FLYTE_MAX_CONNECTIONS",
            parse_count,
            "The largest number of connections of one server process; further ones get 503."
            " The limit of open files may lower it.",
            NETWORK,
            "NUMBER",
            shown="10000, or fewer if the limit of open files is lower",
        ),
    ] = None
    max_transfer_bytes: Annotated[
        int,
        Setting(
            "FLYTE_MAX_TRANSFER_BYTES",
            parse_size,
            "Memory of one server process for large request bodies and answers in transfer, of all"
            " clients together. Beyond it, requests get 503 or the slowest client is disconnected."
            " Less than twice FLYTE_MAX_BODY_BYTES counts as that.",
            NETWORK,
            "BYTES",
        ),
    ] = 128 * 1024 * 1024
    allowed_origins: Annotated[
        tuple[str, ...],
        Setting(
            "FLYTE_ALLOWED_ORIGINS",
            parse_origins,
            "Web pages from these origins, separated by commas, may use the API from a browser; a"
            " server for this computer alone also goes by their names.",
            NETWORK,
            "ORIGINS",
            shown="none but its own",
        ),
    ] = ()
    store: Annotated[
        str,
        Setting(
            "FLYTE_STORE",
            parse_store,
            "The database: sqlite:/// and a path, which is absolute with one slash more;"
            " postgresql://user:password@host:5432/database or"
            " mongodb://user:password@host:27017/flyte, which several servers may share.",
            STORE,
            "URL",
        ),
    ] = "sqlite:///flyte.db"
    store_direct_url: Annotated[
        str | None,
        Setting(
            "FLYTE_STORE_DIRECT_URL",
            parse_direct_url,
            "The same PostgreSQL database past the proxy that FLYTE_STORE names, where that gives"
            " each transaction another connection, as PgBouncer does: notifications need one of"
            " their own.",
            STORE,
            "URL",
            shown="no proxy",
        ),
    ] = None
    store_pool_size: Annotated[
        int,
        Setting(
            "FLYTE_STORE_POOL_SIZE",
            parse_pool_size,
            "How many connections to PostgreSQL each server process shares among requests; it uses"
            " one more for notifications.",
            STORE,
            "NUMBER",
        ),
    ] = 10
    mongodb_host: Annotated[
        str | None,
        Setting(
            "FLYTE_MGO_HOST",
            parse_original,
            "The MongoDB server of an existing installation: host:port, or a mongodb:// URL. Its"
            " database is always flyte; a path names the database in which the user is known. For"
            " another database, name the store.",
            STORE,
            "HOST",
        ),
    ] = None
    keep_for: Annotated[
        timedelta,
        Setting(
            "FLYTE_TTL_IN_SECONDS",
            parse_period,
            "How long executions are kept after their last activity, finished or not.",
            STORE,
            "SECONDS",
            shown="31557600 (a year)",
        ),
    ] = timedelta(seconds=31_557_600)
    keep_finished_for: Annotated[
        timedelta | None,
        Setting(
            "FLYTE_AUDIT_TTL_IN_SECONDS",
            parse_period,
            "How long finished executions, and events that led to none, are kept.",
            STORE,
            "SECONDS",
            shown="as FLYTE_TTL_IN_SECONDS",
        ),
    ] = None
    max_disk: Annotated[
        int | None,
        Setting(
            "FLYTE_MAX_DISK",
            parse_disk,
            "Maximum size of the store; beyond it the oldest finished executions and events go"
            " earlier, live work never. The audit log and unused flow versions are bounded first,"
            " to an eighth of it each. Looked at every few seconds, so a heavy load may exceed it"
            " for so long.",
            STORE,
            "SIZE",
            shown="no bound",
        ),
    ] = None
    max_change_log: Annotated[
        int,
        Setting(
            "FLYTE_MAX_CHANGE_LOG",
            parse_disk,
            "Maximum size of the audit log; beyond it, its oldest entries are removed, and `flyte"
            " audit verify` says from where on the log is whole. At most an eighth of"
            " FLYTE_MAX_DISK.",
            STORE,
            "SIZE",
            shown="256MiB",
        ),
    ] = 256 * 1024 * 1024
    max_old_flows: Annotated[
        int,
        Setting(
            "FLYTE_MAX_OLD_FLOWS",
            parse_disk,
            "How much flow versions may take that are replaced or deleted and that no execution in"
            " the history began with; beyond it, the oldest of them are removed. At most an eighth"
            " of FLYTE_MAX_DISK.",
            STORE,
            "SIZE",
            shown="64MiB",
        ),
    ] = 64 * 1024 * 1024
    max_wal: Annotated[
        int | None,
        Setting(
            "FLYTE_MAX_WAL",
            parse_disk,
            "The largest size of SQLite's write-ahead log, which cannot be shortened while another"
            " program reads an old state of the database. Beyond it, all writes are refused with"
            " 503 until that read ends.",
            STORE,
            "SIZE",
            shown="1GiB, or FLYTE_MAX_DISK if that is less",
        ),
    ] = None
    secrets_key_file: Annotated[
        str | None,
        Setting(
            "FLYTE_SECRETS_KEY_FILE",
            parse_path,
            "A file with the keys that encrypt the secrets in the datastore, one in each line, the"
            " newest first. `flyte data new-key` makes one.",
            STORE,
            "FILE",
            shown="no secrets can be kept",
        ),
    ] = None
    secrets_keys: Annotated[
        tuple[str, ...],
        Setting(
            "FLYTE_SECRETS_KEYS",
            parse_keys,
            "The keys themselves, separated by commas; unlike a file, they are visible in process"
            " listings.",
            STORE,
            "KEYS",
            shown="none",
            is_secret=True,
        ),
    ] = ()
    delete_dead_packs: Annotated[
        bool,
        Setting(
            "FLYTE_SHOULD_DELETE_DEAD_PACKS",
            parse_flag,
            "Whether to forget packs that were not seen for long.",
            PACKS,
            "BOOLEAN",
        ),
    ] = False
    dead_packs_at: Annotated[
        str,
        Setting(
            "FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM",
            parse_clock_time,
            "When dead packs are deleted, once a day, in local time.",
            PACKS,
            "HH:MM",
        ),
    ] = "23:00"
    dead_after: Annotated[
        timedelta,
        Setting(
            "FLYTE_PACK_GRACE_PERIOD_UNTIL_MARKED_DEAD_IN_SECONDS",
            parse_period,
            "How long a pack must not have been seen to count as dead.",
            PACKS,
            "SECONDS",
            shown="604800 (a week)",
        ),
    ] = timedelta(weeks=1)
    auth: Annotated[
        str | None,
        Setting(
            "FLYTE_AUTH",
            parse_auth,
            "tokens: requests require a token created by this server. Works together with an OpenID"
            " provider.",
            AUTH,
            "KIND",
            shown="none; off without an OpenID provider",
        ),
    ] = None
    admin_token_path: Annotated[
        str | None,
        Setting(
            "FLYTE_ADMIN_TOKEN_PATH",
            parse_path,
            "Where a server with FLYTE_AUTH=tokens writes the first admin token.",
            AUTH,
            "FILE",
            shown="beside the SQLite file, with .admin-token at its end; else flyte.admin-token",
        ),
    ] = None
    auth_policy_path: Annotated[
        str | None,
        Setting(
            "FLYTE_AUTH_POLICY_PATH",
            parse_path,
            "The YAML file with the claims required for each request; needs the issuer and the"
            " client id too.",
            AUTH,
            "FILE",
        ),
    ] = None
    oidc_issuer_url: Annotated[
        str | None,
        Setting(
            "FLYTE_OIDC_ISSUER_URL",
            parse_issuer,
            "The OpenID provider that issues tokens, exactly as in `iss`.",
            AUTH,
            "URL",
        ),
    ] = None
    oidc_issuer_client_id: Annotated[
        str | None,
        Setting(
            "FLYTE_OIDC_ISSUER_CLIENT_ID",
            parse_text,
            "The required audience of tokens.",
            AUTH,
            "ID",
        ),
    ] = None
    packs_without_token: Annotated[
        tuple[PackNetwork, ...],
        Setting(
            "FLYTE_PACKS_WITHOUT_TOKEN",
            parse_pack_networks,
            "Packs that cannot send a token, each with the addresses from which it needs none,"
            " separated by commas: Shell@10.1.0.0/16, Ticker[env=dev]@10.1.2.3. Any client with"
            " such an address can act as that pack.",
            AUTH,
            "PACKS",
            shown="none",
        ),
    ] = ()
    log_level: Annotated[
        str,
        Setting(
            "LOGLEVEL",
            parse_log_level,
            f"The log level: {', '.join(LOG_LEVELS)}.",
            LOGGING,
            "LEVEL",
        ),
    ] = "info"
    log_file: Annotated[
        str | None,
        Setting(
            "LOGFILE",
            parse_path,
            "The file that the log is appended to.",
            LOGGING,
            "FILE",
            shown="standard error",
        ),
    ] = None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], overrides: Mapping[str, str] = {}
    ) -> Self:
        """Read all settings; `overrides`, by field, take precedence over `environ`.

        Blank counts as not given. Raise `SettingsError` with every fault at once.
        """
        settings, problems = cls.read(environ, overrides)
        if problems:
            raise SettingsError(problems=problems)
        return settings

    @classmethod
    def read(
        cls, environ: Mapping[str, str], overrides: Mapping[str, str] = {}
    ) -> tuple[Self, list[Problem]]:
        """Read all settings as `from_environment` does.

        Return every fault, and the settings with the faulty ones left out.
        """
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for field, setting in table():
            name, given = _given(field, setting, environ, overrides)
            if not given:
                continue
            try:
                values[field] = setting.parse(given)
            except ValueError as fault:
                shown = "the given value" if setting.is_secret else repr(without_password(given))
                problems.append(Problem(name, f"{shown} {fault}"))
        problems.extend(
            _lone_faults(environ, overrides, TLS, "TLS needs both, or neither for plain HTTP")
        )
        problems.extend(
            _lone_faults(
                environ, overrides, OIDC, "auth by tokens of an OpenID provider needs all three"
            )
        )
        problems.extend(_store_faults(environ, overrides))
        values.setdefault("store", values.get("mongodb_host") or cls().store)
        if values.get("tls_cert_path"):
            values.setdefault("port", 8443)
        return cls(**values), problems

    @property
    def has_tls(self) -> bool:
        return self.tls_cert_path is not None

    @property
    def has_auth(self) -> bool:
        return self.auth is not None or self.auth_policy_path is not None


def _given(
    field: str, setting: Setting, environ: Mapping[str, str], overrides: Mapping[str, str]
) -> tuple[str, str]:
    if field in overrides:
        return option_of(field), overrides[field].strip()
    return setting.variable, environ.get(setting.variable, "").strip()


TLS = ("tls_cert_path", "tls_key_path")
OIDC = ("auth_policy_path", "oidc_issuer_url", "oidc_issuer_client_id")
"""Settings that must be given together."""


def _lone_faults(
    environ: Mapping[str, str], overrides: Mapping[str, str], fields: Sequence[str], why: str
) -> Iterator[Problem]:
    settings = dict(table())
    given = dict(_given(field, settings[field], environ, overrides) for field in fields)
    there = [name for name, text in given.items() if text]
    for name, text in given.items():
        if there and not text:
            yield Problem(name, f"is not set, but {there[0]} is; {why}")


def _store_faults(environ: Mapping[str, str], overrides: Mapping[str, str]) -> Iterator[Problem]:
    settings = dict(table())
    (store, is_named), (host, is_set) = [
        _given(field, settings[field], environ, overrides) for field in ("store", "mongodb_host")
    ]
    if is_named and is_set:
        yield Problem(
            host, f"is set, and so is {store}; both select the database; unset one of them"
        )


def table() -> list[tuple[str, Setting]]:
    """Return every setting with the name of its field, in the order of the table."""
    hints = get_type_hints(Settings, include_extras=True)
    return [(field, hints[field].__metadata__[0]) for field in Settings.__struct_fields__]


def option_of(field: str) -> str:
    """Return the option of `flyte serve` that sets a field."""
    return "--" + field.replace("_", "-")


def default_text(field: str, setting: Setting) -> str:
    """Return the default of a setting in readable form, "" if there is none."""
    if setting.shown is not None:
        return setting.shown
    default = getattr(Settings(), field)
    if default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def unknown_variables(environ: Mapping[str, str]) -> list[Problem]:
    """Return a warning for each unknown ``FLYTE_...`` variable; a pack of yours may read it."""
    variables = [setting.variable for _, setting in table()]
    known = [name for name in (*variables, *PACK_VARIABLES) if name.startswith("FLYTE_")]
    strange = [
        name
        for name in sorted(environ)
        if name.startswith("FLYTE_") and name not in known and not name.startswith(PACK_PREFIXES)
    ]
    return [
        Problem(name, f"is not a setting of Flyte and is ignored{_nearest(name, known)}")
        for name in strange
    ]


def _nearest(name: str, known: list[str]) -> str:
    by_rest = {each.removeprefix("FLYTE_"): each for each in known}
    near = get_close_matches(name.removeprefix("FLYTE_"), by_rest, n=1, cutoff=0.6)
    return f"; did you mean {by_rest[near[0]]}?" if near else ""
