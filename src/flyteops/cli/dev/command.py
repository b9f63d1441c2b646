"""`flyte dev`: a server, the packs and a chat on this computer, with one command."""

import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import click

from flyteops.cli.command import FlyteCommand, WholeNumber
from flyteops.cli.dev.lockfile import FolderLock, LockHolder
from flyteops.cli.dev.processes import ProcessGroup
from flyteops.errors import FlyteError, UnavailableError
from flyteops.server.signals import stop_on_signal
from flyteops.server.socket import PortTakenError, open_listener

HOST = "127.0.0.1"
PORT = 8080

NOT_PASSED_ON = (
    "FLYTE_HOST",
    "FLYTE_PORT",
    "FLYTE_STORE",
    "FLYTE_TLS_CERT_PATH",
    "FLYTE_TLS_KEY_PATH",
    "FLYTE_MGO_HOST",
    "FLYTE_AUTH",
    "FLYTE_AUTH_POLICY_PATH",
    "FLYTE_OIDC_ISSUER_URL",
    "FLYTE_OIDC_ISSUER_CLIENT_ID",
    "FLYTE_API_URL",
    "FLYTE_JWT",
    "FLYTE_JWT_FILE",
    "FLYTE_LABELS",
    "FLYTE_CA_CERT_FILE",
    "LOGFILE",
    "PACK_NAME",
)
"""Variables for another installation, which do not apply to this one."""


@click.command(cls=FlyteCommand)
@click.option(
    "--port",
    metavar="NUMBER",
    type=WholeNumber(0, 65535),
    help="The port of the server; default: 8080, or any free port if that is taken.",
)
@click.option(
    "--flows",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of flow files; default: ./examples if it exists.",
)
@click.option(
    "--pack",
    "more_packs",
    metavar="NAME",
    multiple=True,
    help="Another installed pack to run; may be repeated.",
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="How long to wait for unfinished work after the end of piped input.",
)
async def dev(
    port: int | None, flows: Path | None, more_packs: tuple[str, ...], wait: float
) -> None:
    """Start everything on this computer, and chat with it.

    Runs a server, the packs Shell and Ticker, each as a process of its own, and a chat. Data and
    logs are kept in ./.flyte. Everything ends with this command. Lines can also come from a pipe:
    echo hello | flyte dev

    If it runs already, a second one is another chat with the first.
    """
    directory = own_directory()
    with FolderLock(directory) as tenancy:
        if tenancy.other is not None:
            is_plain = port is None and flows is None and not more_packs
            await _visit(tenancy.other, wait, is_plain=is_plain)
            return
        flows = flows or _examples()
        listener = _listen(port)
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        tenancy.tell(url)
        click.get_current_context().meta["url"] = url
        packs = ("Shell", "Ticker", *more_packs)
        environ = child_environment(os.environ, url, flows)
        async with stop_on_signal() as stop, ProcessGroup(directory) as processes:
            await _start_server(processes, listener, directory, environ)
            # The server is starting; slow imports can take place meanwhile.
            from flyteops.cli.dev.session import DevSession, run_dev_session  # noqa: PLC0415

            log = private_file(directory / "chat.log")
            logging.basicConfig(
                filename=log, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
            )
            await run_dev_session(processes, stop, DevSession(flows, packs, environ, url, wait))


def private_file(path: Path) -> Path:
    """Create a file that only this user can read, as it may contain chat messages."""
    path.touch(0o600)
    path.chmod(0o600)
    return path


async def _visit(tenant: LockHolder, wait: float, *, is_plain: bool) -> None:
    """Chat with the Flyte that runs here already.

    Without a person at the terminal, or with other options, only report its address.
    """
    from flyteops.cli.api import connect  # noqa: PLC0415 - not needed to start a server
    from flyteops.cli.chat import is_interactive, run_chat  # noqa: PLC0415
    from flyteops.packs.chat import Room  # noqa: PLC0415

    runs = f"a Flyte server is already running here (process {tenant.process_id})"
    if not tenant.url:
        message = f"{runs}, but is still starting; try again in a moment"
        raise FlyteError(message)
    click.get_current_context().meta["url"] = tenant.url
    try:
        async with connect() as client:
            await client.request("GET", "/health")
    except UnavailableError as error:
        message = (
            f"{runs}, but it does not answer at {tenant.url}; if that lasts, end it with: kill"
            f" {tenant.process_id}"
        )
        raise FlyteError(message) from error
    if not (is_plain and is_interactive()):
        message = f"{runs}, at {tenant.url}; to talk to it: flyte chat --url {tenant.url}"
        raise FlyteError(message)
    click.echo(
        f"{runs[0].upper()}{runs[1:]}, so this chat joins it; it keeps running when you leave."
    )
    await run_chat(Room(), "Chat", wait)


def own_directory() -> Path:
    """Create the folder for all data, for this user alone."""
    directory = Path(".flyte")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        # Events, logs and the database are in it; earlier versions let all users of the computer
        # read them.
        if stat.S_IMODE(directory.stat().st_mode) & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        message = (
            f"cannot make a private directory .flyte here: {error.strerror}; run this in a folder"
            " of your own"
        )
        raise FlyteError(message) from error
    return directory


def _examples() -> Path | None:
    examples = Path("examples")
    return examples if examples.is_dir() else None


def _listen(port: int | None) -> socket.socket:
    try:
        return open_listener(HOST, PORT if port is None else port)
    except PortTakenError:
        if port is not None:
            raise
    listener = open_listener(HOST, 0)
    port = listener.getsockname()[1]
    click.echo(
        f"Port {PORT} is in use by another program, so this server uses port {port}.", err=True
    )
    return listener


async def _start_server(
    processes: ProcessGroup, listener: socket.socket, directory: Path, environ: Mapping[str, str]
) -> None:
    # It takes over a listening socket: the port cannot be taken away, and early clients wait for
    # the answer.
    with listener:
        fd = listener.fileno()
        store = f"sqlite:///{directory / 'flyte.db'}"
        await processes.start(
            "server",
            ["serve", "--fd", str(fd), "--attached", "--store", store],
            environ,
            pass_fds=[fd],
        )


def child_environment(environ: Mapping[str, str], url: str, flows: Path | None) -> dict[str, str]:
    """Return the environment of the children, without any reference to another server."""
    kept = {name: value for name, value in environ.items() if name not in NOT_PASSED_ON}
    own = {
        "FLYTE_API": url,
        "FLYTE_PACK_HEALTH_PORT": "off",
        "FLYTE_PACK_POLL_INTERVAL": "100ms",
        "FLYTE_PACK_STOP_TIMEOUT": "2",
        "PYTHONUNBUFFERED": "1",
    }
    if flows is not None:
        own["FLYTE_EXAMPLES"] = str(flows.resolve())
    return {**kept, **own}
