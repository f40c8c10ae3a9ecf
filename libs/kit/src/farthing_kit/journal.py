"""An append-only journal on local disk: what was appended and not acknowledged is there again after a crash.

A record is a header (length, CRC-32) and a body. Bodies are of two kinds: a put (id, subject, trace, payload) and an
acknowledgement of an id. Records live in segment files that are deleted, oldest first, once nothing in them is pending.
A torn record at the end of a segment, as a crash leaves it, is cut off.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from farthing_kit.telemetry import logs

_HEADER: Final = struct.Struct("<II")
_PUT: Final = struct.Struct("<cHHHI")
_PUT_KIND: Final = b"P"
_ACK_KIND: Final = b"A"
_SUFFIX: Final = ".seg"

_log = logs.get("kit.journal")


class JournalFull(Exception):
    """The journal holds as much as it may, or the disk is full."""


class JournalLocked(Exception):
    """Another process has this journal open."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message to be delivered. `id` names it for ever; `trace` is a traceparent, or empty."""

    id: str
    subject: str
    payload: bytes
    trace: str = ""


@dataclass(slots=True)
class _Segment:
    path: Path
    fd: int
    size: int = 0
    dirty: bool = False
    pending: set[str] = field(default_factory=set)


class Journal:
    """One folder of segments, open in one process at a time. All calls are synchronous and short."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._where: dict[str, _Segment] = {}
        self._lock = -1

    @property
    def pending(self) -> int:
        """Records not acknowledged yet."""
        return len(self._where)

    @property
    def bytes(self) -> int:
        """What the segments take on disk."""
        return sum(segment.size for segment in self._segments)

    def open(self) -> list[Record]:
        """Take the folder; returns the pending records in the order they were appended."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        records: dict[str, Record] = {}
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._replay(path, records)
        if not self._segments:
            self._roll()
        self._drop_finished()
        return list(records.values())

    def append(self, record: Record) -> None:
        """Write a record. JournalFull, and nothing written, when there is no room for it."""
        raw = _framed(_put_body(record))
        if self.bytes + len(raw) > self._max_bytes:
            raise JournalFull(f"{self.bytes} of {self._max_bytes} bytes are taken")
        if self._segments[-1].size + len(raw) > self._segment_bytes and self._segments[-1].size:
            self._roll()
        segment = self._segments[-1]
        _write(segment, raw)
        segment.pending.add(record.id)
        self._where[record.id] = segment

    def acknowledge(self, record_id: str) -> None:
        """Forget a record. When it was the last one, the journal is empty again."""
        segment = self._where.pop(record_id, None)
        if segment is None:
            return
        segment.pending.discard(record_id)
        if self._where:
            _write_ack(self._segments[-1], record_id)
            self._drop_finished()
        else:
            self._clear()

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._where

    def syncer(self) -> Callable[[], None]:
        """A call that returns once everything appended until now is on the disk itself. It may run in another thread,
        while the journal goes on: it has handles of its own."""
        handles = [os.dup(segment.fd) for segment in self._segments if segment.dirty]
        for segment in self._segments:
            segment.dirty = False
        handles.append(os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC))  # for the names of new segments

        def sync() -> None:
            for handle in handles:
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

        return sync

    def close(self) -> None:
        """Give the folder back. Pending records stay in it."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        self._where.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> None:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise JournalLocked(f"{self._folder} is in use by another process; give each its own folder") from None
        self._lock = lock

    def _replay(self, path: Path, records: dict[str, Record]) -> None:
        raw = path.read_bytes()
        segment = self._open_segment(path)
        for body, end in _bodies(raw):
            segment.size = end
            if body[:1] == _ACK_KIND:
                self._forget(body[1:].decode(), records)
            else:
                record = _record(body)
                self._forget(record.id, records)
                records[record.id] = record
                segment.pending.add(record.id)
                self._where[record.id] = segment
        if segment.size < len(raw):
            _log.warning("cut a torn record off the journal", bytes=len(raw) - segment.size, file=path.name)
            os.ftruncate(segment.fd, segment.size)

    def _forget(self, record_id: str, records: dict[str, Record]) -> None:
        records.pop(record_id, None)
        segment = self._where.pop(record_id, None)
        if segment is not None:
            segment.pending.discard(record_id)

    def _open_segment(self, path: Path) -> _Segment:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        segment = _Segment(path, fd)
        self._segments.append(segment)
        return segment

    def _roll(self) -> None:
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
        self._open_segment(self._folder / f"{number:010d}{_SUFFIX}")

    def _drop_finished(self) -> None:
        """Oldest first only: a later segment holds the acknowledgements of an earlier one."""
        while len(self._segments) > 1 and not self._segments[0].pending:
            segment = self._segments.pop(0)
            os.close(segment.fd)
            segment.path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Nothing is pending: empty the newest segment first, whose loss can bring nothing back."""
        newest = self._segments[-1]
        for segment in self._segments[:-1]:
            os.close(segment.fd)
            segment.path.unlink(missing_ok=True)
        self._segments = [newest]
        os.ftruncate(newest.fd, 0)
        newest.size = 0


def _framed(body: bytes) -> bytes:
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


def _put_body(record: Record) -> bytes:
    parts = (record.id.encode(), record.subject.encode(), record.trace.encode(), record.payload)
    return _PUT.pack(_PUT_KIND, *map(len, parts)) + b"".join(parts)


def _record(body: bytes) -> Record:
    _, *lengths = _PUT.unpack_from(body)
    parts, start = [], _PUT.size
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    return Record(parts[0].decode(), parts[1].decode(), parts[3], parts[2].decode())


def _bodies(raw: bytes) -> Iterator[tuple[bytes, int]]:
    """The whole records at the start of a segment, each with the place where it ends."""
    start = 0
    while start + _HEADER.size <= len(raw):
        length, crc = _HEADER.unpack_from(raw, start)
        end = start + _HEADER.size + length
        body = raw[start + _HEADER.size : end]
        if length == 0 or len(body) < length or zlib.crc32(body) != crc:
            return
        yield body, end
        start = end


def _write(segment: _Segment, raw: bytes) -> None:
    try:
        written = os.write(segment.fd, raw)
    except OSError as error:
        raise JournalFull(f"the disk refuses: {error.strerror}") from error
    if written < len(raw):
        os.ftruncate(segment.fd, segment.size)
        raise JournalFull("the disk is full")
    segment.size += written
    segment.dirty = True


def _write_ack(segment: _Segment, record_id: str) -> None:
    """Best effort: without it, the record is sent once more after a crash, under the same id."""
    try:
        _write(segment, _framed(_ACK_KIND + record_id.encode()))
    except JournalFull:
        _log.warning("an acknowledgement was not written", file=segment.path.name)
