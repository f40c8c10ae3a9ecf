"""An append-only journal on local disk: what was appended and not acknowledged is there again after a crash.

Records (journal_format) live in segment files that are deleted, oldest first, once nothing in them is pending. A record
that a crash cut off at the end of the last segment is cut away. Other damage costs the records that it touched and no
others: reading goes on at the next whole record, and the file is kept, under the name `*.damaged` once nothing in it is
pending. A disk that is full or refuses costs no record that was accepted.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from farthing_kit.journal_format import HEADER_BYTES, MARK_BYTES, Damage, Record, acknowledge, framed, put, read
from farthing_kit.telemetry import logs

__all__ = ["Journal", "JournalFull", "JournalLocked", "Record"]

MAX_DAMAGED_FILES: Final = 16
PROBE_BYTES: Final = 2 * 1024

# Earlier versions named segments "0000000001.seg". The other ending keeps them from reading, and cutting, what they do
# not know, should one of them come back.
_NAME: Final = re.compile(r"(\d{10})(?:\.seg|-([0-9a-f]{16})\.journal)")
_DAMAGED: Final = ".damaged"

_log = logs.get("kit.journal")


class JournalFull(Exception):
    """The journal holds as much as it may, or the disk is full."""


class JournalLocked(Exception):
    """Another process has this journal open."""


@dataclass(slots=True)
class _Segment:
    """`mark` is empty in segments of earlier versions. Nothing more is written to one that is `sealed`, and one that is
    `damaged` is never deleted."""

    path: Path
    fd: int
    mark: bytes
    size: int = 0
    dirty: bool = False
    sealed: bool = False
    damaged: bool = False
    pending: set[str] = field(default_factory=set)


class Journal:
    """One folder of segments, open in one process at a time. All calls are synchronous and short."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._where: dict[str, _Segment] = {}
        self._number = 0
        self._lock = -1
        self.damages = 0

    @property
    def pending(self) -> int:
        """Records not acknowledged yet."""
        return len(self._where)

    @property
    def size(self) -> int:
        """Bytes that the segments take on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def damaged_files(self) -> int:
        """Files with damaged bytes, which stay until somebody has looked at them and removed them."""
        return sum(segment.damaged for segment in self._segments) + len(self._kept())

    def open(self) -> list[Record]:
        """Take the folder; returns the pending records in the order they were appended."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        records: dict[str, Record] = {}
        found = sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        found.sort(key=lambda path: path.suffix != ".seg")  # earlier versions wrote before this one did
        for path in found:
            self._replay(path, records, last=path is found[-1])
        self._drop_finished()
        return list(records.values())

    def append(self, record: Record) -> None:
        """Write a record. JournalFull, and nothing written, when there is no room for it."""
        body = put(record)
        segment = self._write(body, room=HEADER_BYTES + len(body))
        segment.pending.add(record.id)
        self._where[record.id] = segment

    def acknowledge(self, record_id: str) -> None:
        """Forget a record. When it was the last one, the journal is empty again."""
        segment = self._where.pop(record_id, None)
        if segment is None:
            return
        segment.pending.discard(record_id)
        if self._where:
            self._write_acknowledgement(record_id)
        self._drop_finished()

    def probe(self) -> None:
        """JournalFull while no record of common size can be appended. Writes so much that means nothing."""
        self._write(acknowledge(" " * PROBE_BYTES), room=HEADER_BYTES + PROBE_BYTES)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._where

    def syncer(self) -> Callable[[], None]:
        """A call that returns once everything appended until now is on the disk itself. It may run in another thread,
        while the journal goes on: it has handles of its own.

        JournalFull if the disk refuses: what was appended may be lost with the power, though not with the process. The
        kernel reports that once and forgets what it could not write, so nothing more goes into those segments.
        """
        dirty = [segment for segment in self._segments if segment.dirty]
        handles: list[int] = []

        def sync() -> None:
            try:
                for handle in handles:
                    os.fsync(handle)
            except OSError as error:
                for segment in dirty:
                    segment.sealed = True
                raise _refused(error) from error
            finally:
                for handle in handles:
                    os.close(handle)

        try:
            handles.extend(os.dup(segment.fd) for segment in dirty)
            handles.append(os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC))  # for the names of new segments
        except OSError as error:
            for handle in handles:
                os.close(handle)
            raise _refused(error) from error
        for segment in dirty:
            segment.dirty = False
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

    def _replay(self, path: Path, records: dict[str, Record], *, last: bool) -> None:
        raw = path.read_bytes()
        segment = self._open_segment(path)
        segment.size = len(raw)
        for entry in read(raw, segment.mark):
            if isinstance(entry, Damage):
                self._damaged(segment, entry, last=last)
                continue
            self._forget(entry.id, records)
            if isinstance(entry, Record):
                records[entry.id] = entry
                segment.pending.add(entry.id)
                self._where[entry.id] = segment
        segment.sealed = not last or segment.damaged or not segment.mark

    def _damaged(self, segment: _Segment, damage: Damage, *, last: bool) -> None:
        size = damage.end - damage.start
        if last and damage.cut_off:
            _log.warning("cut a torn record off the journal", bytes=size, file=segment.path.name)
            os.ftruncate(segment.fd, damage.start)
            segment.size = damage.start
            return
        self.damages += 1
        segment.damaged = True
        _log.error(
            "bytes of the journal are damaged: what was in them is lost, the rest is delivered; the file is kept",
            file=segment.path.name,
            offset=damage.start,
            bytes=size,
        )

    def _forget(self, record_id: str, records: dict[str, Record]) -> None:
        records.pop(record_id, None)
        segment = self._where.pop(record_id, None)
        if segment is not None:
            segment.pending.discard(record_id)

    def _open_segment(self, path: Path) -> _Segment:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        name = _NAME.fullmatch(path.name)
        assert name is not None
        segment = _Segment(path, fd, bytes.fromhex(name[2] or ""))
        self._segments.append(segment)
        self._number = max(self._number, int(name[1]))
        return segment

    def _write(self, body: bytes, *, room: int) -> _Segment:
        """Append to the last segment, or to a new one; JournalFull, and nothing written, if that cannot be, or if the
        journal has not this much room left."""
        if self.size + room > self._max_bytes:
            raise JournalFull(f"{self.size} of {self._max_bytes} bytes are taken")
        try:
            segment = self._segment_for(HEADER_BYTES + len(body))
            _append(segment, framed(body, segment.mark))
        except OSError as error:
            raise _refused(error) from error
        return segment

    def _segment_for(self, size: int) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and not last.sealed and (not last.size or last.size + size <= self._segment_bytes):
            return last
        name = f"{self._number + 1:010d}-{secrets.token_hex(MARK_BYTES)}.journal"
        return self._open_segment(self._folder / name)

    def _write_acknowledgement(self, record_id: str) -> None:
        """Best effort: without it, the record is sent once more after a crash, under the same id."""
        try:
            self._write(acknowledge(record_id), room=0)
        except JournalFull:
            _log.warning("an acknowledgement was not written", records=self.pending)

    def _drop_finished(self) -> None:
        """Oldest first only: a later segment holds the acknowledgements of an earlier one. The last is emptied, once
        nothing is pending. What the disk refuses is tried again the next time."""
        try:
            while len(self._segments) > 1 and not self._segments[0].pending:
                self._drop(self._segments[0])
            if self._segments and not self._where:
                self._empty_last()
        except OSError as error:
            _log.warning("a finished segment cannot be deleted", error=error.strerror)

    def _empty_last(self) -> None:
        last = self._segments[0]
        if last.sealed:
            self._drop(last)
        elif last.size:
            os.ftruncate(last.fd, 0)
            last.size = 0

    def _drop(self, segment: _Segment) -> None:
        if segment.damaged:
            segment.path.rename(segment.path.with_suffix(_DAMAGED))
            self._bound_kept()
        else:
            segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)
        os.close(segment.fd)

    def _kept(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_DAMAGED}"))

    def _bound_kept(self) -> None:
        for path in self._kept()[:-MAX_DAMAGED_FILES]:
            _log.error("too many damaged files of the journal are kept; the oldest is deleted", file=path.name)
            path.unlink(missing_ok=True)


def _refused(error: OSError) -> JournalFull:
    return JournalFull(f"the disk refuses: {error.strerror}")


def _append(segment: _Segment, raw: bytes) -> None:
    """All of it or nothing. What cannot be taken back is sealed in: there it is damage, which costs no record."""
    written = os.write(segment.fd, raw)
    if written == len(raw):
        segment.size += written
        segment.dirty = True
        return
    try:
        os.ftruncate(segment.fd, segment.size)
    except OSError:
        segment.size += written
        segment.sealed = True
        raise
    raise JournalFull("the disk is full")
