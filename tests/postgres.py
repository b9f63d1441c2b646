"""Places on the PostgreSQL server that FLYTE_TEST_POSTGRES names, and PostgreSQL servers of a
test's own.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import asyncpg

from tests.late import let_in

URL = os.environ.get("FLYTE_TEST_POSTGRES", "")


def url_of(url: str, *, account: str = "", host: str = "") -> str:
    """Return a URL for another account or with another host and port."""
    address = urlsplit(url)
    known_account, _, known_host = address.netloc.rpartition("@")
    return address._replace(netloc=f"{account or known_account}@{host or known_host}").geturl()


@contextlib.asynccontextmanager
async def place(url: str = URL) -> AsyncIterator[str]:
    """Make a role that owns nothing but a schema, give out the URL by which it gets there, and
    remove both in the end.
    """
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret'; CREATE SCHEMA {name} AUTHORIZATION {name}"
    )
    try:
        yield url_of(url, account=f"{name}:secret")
    finally:
        await connection.execute(f"DROP SCHEMA {name} CASCADE; DROP ROLE {name}")
        await connection.close()


async def execute(*statements: str, url: str = URL) -> None:
    """Run statements one after the other on one connection."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def forgetful(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Stand between a server and its database; once told, the next answer to a COMMIT is lost,
    and its connection.
    """
    address = urlsplit(url)
    will_forget = False
    tasks: list[asyncio.Task[None]] = []

    async def relay(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        nonlocal will_forget
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if answers and will_forget and b"COMMIT\0" in data:
                    will_forget = False
                    break
                writer.write(data)
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        database, to_database = await asyncio.open_connection(address.hostname, address.port)
        upwards = asyncio.create_task(relay(reader, to_database, answers=False))
        await relay(database, writer, answers=True)
        to_database.close()
        await upwards

    def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(carry(reader, writer)))

    def forget() -> None:
        nonlocal will_forget
        will_forget = True

    async with await asyncio.start_server(join, "127.0.0.1") as listener:
        host, port = listener.sockets[0].getsockname()
        yield url_of(url, host=f"{host}:{port}"), forget
        assert not will_forget
        await let_in()
    # Else connections would be left to the garbage collector.
    await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A server program that does not run as root."""

    def __init__(self, *command: object) -> None:
        user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            if os.getuid() == 0
            else []
        )
        self._command = [*user, *map(str, command)]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, port: int) -> None:
        """Start it; return when its port is open."""
        null = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=null, stderr=null, cwd="/"
        )
        while True:
            assert self._process.returncode is None, "it ended by itself"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            await asyncio.sleep(0.02)

    async def stop(self, number: signal.Signals) -> None:
        """End it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        assert self._process is not None
        pid = self._process.pid
        for each in (str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(each), number)


class Database:
    """A PostgreSQL server of a test's own, that can be started, stopped and frozen. Everybody
    but its owner needs a password.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = sorted(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
        )[-1]
        self._port = free_port()
        self.url = f"postgresql://flyte@127.0.0.1:{self._port}/postgres"
        options = [
            "-c",
            f"port={self._port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ]
        self._program = Program(self._bin / "postgres", "-D", folder / "data", *options)

    async def make(self) -> None:
        """Make an empty cluster; nothing is started."""
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        initdb = Program(
            self._bin / "initdb",
            "-D",
            self._folder / "data",
            "-U",
            "flyte",
            "--auth=trust",
            "--no-sync",
        )
        process = await asyncio.create_subprocess_exec(
            *initdb._command, stdout=asyncio.subprocess.DEVNULL, cwd="/"
        )
        assert await process.wait() == 0
        rules = "host all flyte 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self._folder / "data" / "pg_hba.conf").write_text(rules)

    async def start(self) -> None:
        """Start it; return when it lets its owner in."""
        await self._program.start(self._port)
        while True:
            with contextlib.suppress(asyncpg.CannotConnectNowError):
                return await self.execute()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it and all its connections; SIGQUIT is as a crash."""
        await self._program.stop(number)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing for a while, without closing its connections."""
        self._program.signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._program.signal_all(signal.SIGCONT)

    def use_tls(self, certificate: str, key: str) -> None:
        """Encrypt connections from the next start on."""
        files = []
        for source, name, mode in ((certificate, "server.crt", 0o644), (key, "server.key", 0o600)):
            target = self._folder / "data" / name
            shutil.copy(source, target)
            target.chmod(mode)
            if os.getuid() == 0:
                shutil.chown(target, "postgres", "postgres")
            files.append(target)
        rows = f"ssl = on\nssl_cert_file = '{files[0]}'\nssl_key_file = '{files[1]}'\n"
        with (self._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(rows)

    async def execute(self, *statements: str) -> None:
        """Run statements as the owner."""
        await execute(*statements, url=self.url)


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """Make a server of a test's own, not started yet."""
    with tempfile.TemporaryDirectory() as folder:
        made = Database(Path(folder))
        await made.make()
        try:
            yield made
        finally:
            await made.stop(signal.SIGQUIT)


@contextlib.asynccontextmanager
async def bouncer(url: str, mode: str = "transaction", size: int = 4) -> AsyncIterator[str]:
    """Put PgBouncer before a place, by default so that each transaction gets another connection;
    give out its URL.
    """
    with tempfile.TemporaryDirectory() as folder:
        program, port = _bouncer(
            Path(folder), urlsplit(url), f"pool_mode = {mode}\ndefault_pool_size = {size}\n"
        )
        await program.start(port)
        try:
            yield url_of(url, host=f"127.0.0.1:{port}")
        finally:
            # Any other signal lets it wait for its clients, in one mode or version.
            await program.stop(signal.SIGKILL)


def _bouncer(folder: Path, address: SplitResult, options: str) -> tuple[Program, int]:
    port = free_port()
    (folder / "users").write_text(f'"{address.username}" "{address.password}"\n')
    (folder / "bouncer.ini").write_text(
        f"[databases]\n* = host={address.hostname} port={address.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder / 'users'}\n{options}"
    )
    folder.chmod(0o755)
    return Program(shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", folder / "bouncer.ini"), port
