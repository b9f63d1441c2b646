"""The measured server: a process of its own on a scratch database."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


class Server:
    """A server process on a scratch database in a folder, or on the named store.

    `source` is the folder of the package, for a server of another commit.
    """

    def __init__(self, folder: str, store: str | None = None, source: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._store = store or f"sqlite:///{folder}/flyte.db"
        self._source = {} if source is None else {"PYTHONPATH": str(source)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and return the seconds until it responds."""
        environment = {
            **os.environ,
            "FLYTE_PORT": str(self.port),
            "FLYTE_STORE": self._store,
            "LOGLEVEL": "error",
            **self._source,
        }
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flyteops", "serve"], env=environment
        )
        while True:
            if self.process.poll() is not None:
                raise RuntimeError("the server did not start")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.002)
            else:
                return time.perf_counter() - began

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def memory(self) -> float:
        """Return the resident memory in MB."""
        assert self.process is not None
        return memory_of(self.process.pid)

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        assert self.process is not None
        return cpu_of(self.process.pid)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        / 1024
    )


@contextmanager
def scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flyte-bench-") as folder:
        yield folder


@contextmanager
def a_server(folder: str | None = None) -> Iterator[Server]:
    """Run a server, on a database in the folder if one is given."""
    with ExitStack() as stack:
        server = Server(folder or stack.enter_context(scratch()))
        server.start()
        stack.callback(server.stop)
        yield server
