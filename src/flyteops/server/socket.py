"""The listening socket of a server, opened first, so that a taken port stops the start at once."""

import errno
import socket

from flyteops.errors import FlyteError, Problem, SettingsError
from flyteops.settings import Settings

BACKLOG = 2048


class PortTakenError(FlyteError):
    """Another program listens on this port."""

    code = "port-taken"


def open_listener(host: str, port: int, *, shares: bool = False) -> socket.socket:
    """Listen on an address; raise `PortTakenError`, or `SettingsError` if listening is impossible.

    A socket that `shares` the port with others of its kind does not listen yet; the kernel spreads
    connections over those that do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )[0]
    except socket.gaierror as error:
        fault = (
            f"{host!r} is not known: {error.strerror}; give an address of this computer such as"
            " 127.0.0.1 or 0.0.0.0"
        )
        raise SettingsError(problems=[Problem("FLYTE_HOST", fault)]) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if not shares:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(host, port, error) from error
    return listener


def reserve_port(host: str, port: int) -> socket.socket:
    """Reserve a port for servers that share it, without listening on it.

    Raise as `open_listener` does.
    """
    # No other program listens on it, not even servers that share ports.
    with open_listener(host, port) as probe:
        port = probe.getsockname()[1]
    return open_listener(host, port, shares=True)


def _refusal(host: str, port: int, error: OSError) -> FlyteError:
    match error.errno:
        case errno.EADDRINUSE:
            taken = f"Port {port} of {host} is in use by another program, perhaps another Flyte"
            return PortTakenError(f"{taken}; choose another with --port or FLYTE_PORT.")
        case errno.EACCES:
            fault = f"{port} cannot be opened by this user; choose a port above 1023"
            return SettingsError(problems=[Problem("FLYTE_PORT", fault)])
        case errno.EADDRNOTAVAIL:
            fault = (
                f"{host!r} is not an address of this computer; give one such as 127.0.0.1 or"
                " 0.0.0.0"
            )
            return SettingsError(problems=[Problem("FLYTE_HOST", fault)])
        case _:
            return FlyteError(f"Cannot listen on {host}, port {port}: {error.strerror}.")


def address_of(listener: socket.socket, settings: Settings) -> str:
    """Return the URL of a listener, as a person on this computer would type it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104 - compared
    scheme = "https" if settings.has_tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this computer can reach it."""
    host = str(listener.getsockname()[0])
    return host.startswith("127.") or host == "::1"
