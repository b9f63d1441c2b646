"""The log of a server's writes, syncs and responses, in order, in the format of strace."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "openat,pwrite64,write,writev,sendto,sendmsg,ftruncate,fallocate,fsync,fdatasync,"
    "unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat"
)

LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>(?P<end>.*)|(?P<whole>\w+\(.*))")
UNFINISHED = "<unfinished ...>"
CALL = re.compile(
    r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?:<(?P<opened>[^>]*)>)?", re.DOTALL
)
TARGET = re.compile(r"\d+<(?P<path>TCP[^]]*\]|[^>]*)>")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
CLIENT = re.compile(r"TCP.*->.*:(\d+)\]$")
SIZE = re.compile(r", (\d+)\s*$")


@dataclass(frozen=True)
class FileWrite:
    """Bytes that were written to a file, and need not be on disk until it is synced."""

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class FileTruncation:
    """A file that was set to a size."""

    path: str
    size: int


@dataclass(frozen=True)
class FileSync:
    """A file or directory that was synced: its changes before `since` are on disk from now on."""

    path: str
    since: int


@dataclass(frozen=True)
class FileCreation:
    """A file or directory that was created."""

    path: str
    is_directory: bool = False


@dataclass(frozen=True)
class FileRemoval:
    """A file that was removed."""

    path: str


@dataclass(frozen=True)
class FileRename:
    """A file that was renamed."""

    path: str
    to: str


@dataclass(frozen=True)
class SocketSend:
    """Bytes that were sent to the client at a port."""

    port: int
    data: bytes


Operation = (
    FileWrite | FileTruncation | FileSync | FileCreation | FileRemoval | FileRename | SocketSend
)


def tracer(log: Path) -> list[str]:
    """Return the command that runs another one, as a direct child of the caller, and logs it."""
    options = ["-D", "-f", "--seccomp-bpf", "-e", "signal=none", "-yy", "-xx", "-s", "16777216"]
    return ["strace", *options, "-o", str(log), "-e", f"trace={CALLS}"]


def read(lines: Iterable[str]) -> list[tuple[int, Operation]]:
    """Return the operations, each with its place in the order.

    Written data may be on disk as soon as the call has begun; synced data is on disk only when the
    call has ended.
    """
    found = [
        (at, operation)
        for begin, end, call in _calls(lines)
        for at, operation in _operations(begin, end, call)
    ]
    return sorted(found, key=lambda each: each[0])


def _calls(lines: Iterable[str]) -> Iterator[tuple[int, int, re.Match[str]]]:
    """Yield each successful call with the numbers of the lines of its begin and end."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = LINE.match(line)
        if found is None:
            continue
        if (whole := found["whole"]) is not None:
            begin = number
            if whole.rstrip().endswith(UNFINISHED):
                begun[found[1]] = number, whole.rstrip().removesuffix(UNFINISHED)
                continue
        elif found[1] in begun:
            begin, head = begun.pop(found[1])
            whole = head + found["end"]
        else:
            continue
        call = CALL.match(whole)
        if call is not None and not call["result"].startswith("-"):
            yield begin, number, call


def _operations(begin: int, end: int, call: re.Match[str]) -> Iterator[tuple[int, Operation]]:
    name, arguments = call["name"], call["arguments"]
    target = TARGET.match(arguments)
    path = "" if target is None else _text(target["path"])
    if name == "openat":
        if "O_CREAT" in arguments and call["opened"] is not None:
            yield end, FileCreation(_text(call["opened"]))
    elif name in ("fsync", "fdatasync"):
        yield end, FileSync(path, begin)
    elif name in ("unlink", "unlinkat"):
        yield begin, FileRemoval(_texts(arguments)[-1])
    elif name.startswith("rename"):
        yield begin, FileRename(*_texts(arguments)[:2])
    elif name.startswith("mkdir"):
        yield begin, FileCreation(_texts(arguments)[-1], is_directory=True)
    elif name == "ftruncate":
        yield begin, FileTruncation(path, _last_number(arguments))
    else:
        yield from _written(begin, call, path)


def _written(begin: int, call: re.Match[str], path: str) -> Iterator[tuple[int, Operation]]:
    client = CLIENT.match(path)
    if client is None and call["name"] != "pwrite64":
        return  # a pipe, the log, or an operation that a database does not do to its files
    parts = TEXT.findall(TARGET.sub("", call["arguments"], count=1))
    data = b"".join(map(_bytes, parts))[: int(call["result"])]
    if client is not None:
        yield begin, SocketSend(int(client[1]), data)
    else:
        yield begin, FileWrite(path, _last_number(call["arguments"]), data)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    """Return a path, of which every byte is escaped."""
    return (
        _bytes(escaped).decode(errors="surrogateescape") if escaped.startswith("\\x") else escaped
    )


def _texts(arguments: str) -> list[str]:
    return [_bytes(part).decode(errors="surrogateescape") for part in TEXT.findall(arguments)]


def _last_number(arguments: str) -> int:
    found = SIZE.search(arguments)
    if found is None:
        raise ValueError(f"a call of strace's log cannot be read: {arguments[-80:]!r}")
    return int(found[1])
