"""Backup files: a store's records as compressed lines of JSON, with a header and a sealing end."""

import gzip
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import BinaryIO

import msgspec

from flyteops import __version__
from flyteops.errors import InputError, StoreError
from flyteops.storage.base import Store
from flyteops.storage.dump import Report, load_all
from flyteops.storage.record import PART_RECORDS, Stored, Tally, encode_record, kind_of

FORMAT = 1
"""The format version; increased when older versions cannot read the new format."""

PART_BYTES = 4 * 1024 * 1024

LEVEL = 4
"""The compression level: half of the time of the usual level, for a tenth more bytes."""


class BackupHeader(msgspec.Struct, frozen=True, tag="backup"):
    """The first line."""

    format: int
    version: str
    made_at: datetime


class BackupTrailer(msgspec.Struct, frozen=True, tag="end"):
    """The last line: the number of records of each kind, and the checksum over their lines."""

    counts: dict[str, int]
    checksum: str


decode_head = msgspec.json.Decoder(BackupHeader).decode
decode_line = msgspec.json.Decoder(Stored | BackupTrailer).decode


async def write_backup(store: Store, file: BinaryIO, made_at: datetime, report: Report) -> Tally:
    """Write a consistent snapshot of a store to a file; return the tally of its records."""
    tally = Tally()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=LEVEL) as lines:
        lines.write(msgspec.json.encode(BackupHeader(FORMAT, __version__, made_at)) + b"\n")
        async with aclosing(store.export()) as parts:
            async for part in parts:
                encoded = [encode_record(record) for record in part]
                for record, line in zip(part, encoded, strict=True):
                    tally.add(kind_of(record), line)
                lines.write(b"".join([line + b"\n" for line in encoded]))
                report("saving", tally)
        lines.write(
            msgspec.json.encode(BackupTrailer(tally.counts, tally.checkpoint.checksum)) + b"\n"
        )
    return tally


async def restore_backup(file: BinaryIO, target: Store, report: Report) -> Tally:
    """Load a backup as `load_all` does; the store is opened only once the file is verified."""
    verified = verify_backup(file, report)
    async with target:
        loaded = await load_all(_parts(file), target, report)
    if loaded.checkpoint != verified.checkpoint:
        raise StoreError("The backup changed while it was read; empty the target, and begin again.")
    return loaded


def verify_backup(file: BinaryIO, report: Report) -> Tally:
    """Verify a backup from beginning to end.

    Return its tally, or raise `InputError` if it was changed.
    """
    tally = Tally()
    for count, _ in enumerate(_read(file, tally), 1):
        if count % PART_RECORDS == 0:
            report("verifying", tally)
    return tally


async def _parts(file: BinaryIO) -> AsyncGenerator[Sequence[Stored], None]:
    part: list[Stored] = []
    length = 0
    for record, size in _read(file, Tally()):
        part.append(record)
        length += size
        if len(part) == PART_RECORDS or length > PART_BYTES:
            yield part
            part, length = [], 0
    if part:
        yield part


def _read(file: BinaryIO, tally: Tally) -> Iterator[tuple[Stored, int]]:
    """Yield each record and its length."""
    file.seek(0)
    end: BackupTrailer | None = None
    for line in _lines(file):
        if end is not None:
            raise InputError("The backup goes on behind its end; it is not as it was written.")
        try:
            record = decode_line(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            place = f"record {tally.checkpoint.records + 1}"
            raise InputError(
                f"The backup is not as it was written: {place} cannot be understood ({error})."
            ) from error
        if isinstance(record, BackupTrailer):
            end = record
            continue
        tally.add(kind_of(record), line)
        yield record, len(line)
    if end is None:
        raise InputError("The backup is cut off: its end is missing.")
    if (end.counts, end.checksum) != (tally.counts, tally.checkpoint.checksum):
        raise InputError(
            "The backup is not as it was written: counts or checksum at its end say something else."
        )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines after the first."""
    is_backup = False
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as lines:
            _check_head(lines.readline(10_000))
            is_backup = True
            for line in lines:
                yield line.rstrip(b"\n")
    except EOFError as error:
        raise InputError("The backup is cut off: it ends in the middle.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        fault = (
            f"The backup is not as it was written: {error}."
            if is_backup
            else "This is not a backup of Flyte."
        )
        raise InputError(fault) from error


def _check_head(line: bytes) -> None:
    try:
        head = decode_head(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError("This is not a backup of Flyte.") from error
    if head.format > FORMAT:
        raise InputError(
            f"The backup was made by Flyte {head.version} in format {head.format}; this version"
            f" knows {FORMAT}. Install that one."
        )
