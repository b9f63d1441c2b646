"""A simulated disk that loses its power: only synced data is sure to be on it."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from random import Random

from flyteops_chaos.block_log import (
    FileCreation,
    FileRemoval,
    FileRename,
    FileSync,
    FileTruncation,
    FileWrite,
    Operation,
)

SECTOR = 512
"""The number of bytes that are written as a whole or not at all."""


@dataclass
class DiskFile:
    """The content of a file on disk, and the writes since its last sync.

    A directory has neither.
    """

    is_directory: bool = False
    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, FileWrite | FileTruncation]] = field(default_factory=list)

    def sync(self, since: int) -> None:
        """Put on disk all changes before `since`."""
        for at, operation in self.pending:
            if at < since:
                _apply(operation, self.synced)
        self.pending = [each for each in self.pending if each[0] >= since]

    def left(self, rng: Random | None) -> bytes:
        """Return the content after a power failure.

        It is the synced content and, by chance, some of the later writes, in parts and any order.
        """
        content = bytearray(self.synced)
        if rng is None:
            return bytes(content)
        for _, operation in self.pending:
            if rng.random() < 0.5:
                _apply(operation, content)
            elif isinstance(operation, FileWrite) and rng.random() < 0.5:
                _apply_some(operation, content, rng)
        return bytes(content)


def _apply(operation: FileWrite | FileTruncation, content: bytearray) -> None:
    size = (
        operation.size
        if isinstance(operation, FileTruncation)
        else operation.offset + len(operation.data)
    )
    content.extend(bytes(max(0, size - len(content))))
    if isinstance(operation, FileTruncation):
        del content[size:]
    else:
        content[operation.offset : size] = operation.data


def _apply_some(write: FileWrite, content: bytearray, rng: Random) -> None:
    """Write some sectors of a write that was torn."""
    begin, end = write.offset, write.offset + len(write.data)
    while begin < end:
        stop = min(end, (begin // SECTOR + 1) * SECTOR)
        if rng.random() < 0.5:
            part = write.data[begin - write.offset : stop - write.offset]
            _apply(FileWrite(write.path, begin, part), content)
        begin = stop


@dataclass(frozen=True)
class DirectoryEntry:
    """A change of a directory: from now on, a path leads to a file, or to nothing."""

    path: str
    file: DiskFile | None


class Disk:
    """The files below an existing directory. Other files are ignored."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._now: dict[str, DiskFile] = {}
        self._synced: dict[str, DiskFile] = {}
        self._pending: dict[str, list[tuple[int, DirectoryEntry]]] = defaultdict(list)

    def holds(self, path: str) -> bool:
        """Return whether a path is below the root."""
        return path.startswith(f"{self._root}/")

    def do(self, at: int, operation: Operation) -> None:
        """Apply an operation to the files."""
        if isinstance(operation, FileSync):
            self._sync(operation)
        elif isinstance(operation, FileWrite | FileTruncation):
            if operation.path in self._now:
                self._now[operation.path].pending.append((at, operation))
        elif isinstance(operation, FileCreation):
            if self.holds(operation.path) and operation.path not in self._now:
                self._change(at, operation.path, DiskFile(operation.is_directory))
        elif isinstance(operation, FileRemoval):
            self._change(at, operation.path, None)
        elif isinstance(operation, FileRename) and operation.path in self._now:
            self._change(at, operation.to, self._now[operation.path])
            self._change(at, operation.path, None)

    def _change(self, at: int, path: str, file: DiskFile | None) -> None:
        if not self.holds(path):
            return
        self._pending[str(PurePath(path).parent)].append((at, DirectoryEntry(path, file)))
        if file is None:
            self._now.pop(path, None)
        else:
            self._now[path] = file

    def _sync(self, sync: FileSync) -> None:
        if sync.path in self._now:
            self._now[sync.path].sync(sync.since)
        changes = self._pending.pop(sync.path, [])
        for at, entry in changes:
            if at < sync.since:
                _enter(entry, self._synced)
            else:
                self._pending[sync.path].append((at, entry))

    def write_what_is_left(self, to: Path, rng: Random | None) -> None:
        """Write the files as they may be after a power failure.

        Without an `rng`, only synced data is left. Changes of a directory happen in order, but
        not beyond some point.
        """
        names = dict(self._synced)
        for changes in self._pending.values():
            for _, entry in changes[: 0 if rng is None else rng.randint(0, len(changes))]:
                _enter(entry, names)
        for path in sorted(names):
            target = to / PurePath(path).relative_to(self._root)
            if names[path].is_directory:
                target.mkdir(parents=False, exist_ok=True)
            elif target.parent.is_dir():  # else the file is in a directory that is lost
                target.write_bytes(names[path].left(rng))


def _enter(entry: DirectoryEntry, names: dict[str, DiskFile]) -> None:
    if entry.file is None:
        names.pop(entry.path, None)
    else:
        names[entry.path] = entry.file
