"""The bytes of a journal's records, and how they are found again among bytes that were damaged.

A record is a header (mark, length, CRC-32 of the body, CRC-32 of the header so far) and a body. Bodies are of two
kinds: a put (id, subject, trace, payload) and an acknowledgement of an id. The mark is 64 random bits of one segment,
kept in its file's name: whoever looks for the next record looks for the mark, and no payload can hold it.

Earlier versions wrote neither mark nor CRC of the header (`mark` is empty then). Such segments are still read: after
damage, the next record is where the damaged one's length says, or else at the next bytes that are a record to the last
byte. Only there, a payload made for the purpose could be taken for a record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MARK_BYTES: Final = 8

_HEADER: Final = struct.Struct("<8sIII")
HEADER_BYTES: Final = _HEADER.size
_FIELDS: Final = struct.Struct("<8sII")
_OLD_HEADER: Final = struct.Struct("<II")
_PUT: Final = struct.Struct("<cHHHI")
_PUT_KIND: Final = b"P"
_ACK_KIND: Final = b"A"


@dataclass(frozen=True, slots=True)
class Record:
    """One message to be delivered. `id` names it for ever; `trace` is a traceparent, or empty."""

    id: str
    subject: str
    payload: bytes
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The record of this id was delivered."""

    id: str


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from `start` to `end` of a segment that are no record. `cut_off`: they begin one, and end with the segment,
    as a write leaves them that a crash cut off."""

    start: int
    end: int
    cut_off: bool


Entry = Record | Acknowledged


def put(record: Record) -> bytes:
    """The body that puts a record."""
    parts = (record.id.encode(), record.subject.encode(), record.trace.encode(), record.payload)
    return _PUT.pack(_PUT_KIND, *map(len, parts)) + b"".join(parts)


def acknowledge(record_id: str) -> bytes:
    """The body that acknowledges a record."""
    return _ACK_KIND + record_id.encode()


def framed(body: bytes, mark: bytes) -> bytes:
    """A body as it stands in the segment of this mark."""
    fields = _FIELDS.pack(mark, len(body), zlib.crc32(body))
    return fields + zlib.crc32(fields).to_bytes(4, "little") + body


def read(raw: bytes, mark: bytes) -> Iterator[Entry | Damage]:
    """Everything in a segment, in its order: every whole record, and between them what is damaged."""
    start = 0
    while start < len(raw):
        found = _record_at(raw, start, mark)
        if found is None:
            end = _next_record(raw, start, mark)
            yield Damage(start, end, cut_off=end == len(raw) and _is_cut_off(raw, start, mark))
            start = end
        else:
            entry, start = found
            yield entry


def _record_at(raw: bytes, start: int, mark: bytes) -> tuple[Entry, int] | None:
    """The record that begins at `start`, and where it ends."""
    header = _header_at(raw, start, mark)
    if header is None:
        return None
    body_start, length, crc = header
    end = body_start + length
    if end > len(raw) or zlib.crc32(body := raw[body_start:end]) != crc:
        return None
    entry = _entry(body)
    return None if entry is None else (entry, end)


def _header_at(raw: bytes, start: int, mark: bytes) -> tuple[int, int, int] | None:
    """Of a record that begins at `start`: where its body begins, how long that is, and its CRC."""
    if not mark:
        body_start = start + _OLD_HEADER.size
        return (body_start, *_OLD_HEADER.unpack_from(raw, start)) if body_start <= len(raw) else None
    body_start = start + _HEADER.size
    if body_start > len(raw) or not raw.startswith(mark, start):
        return None
    _, length, crc, own = _HEADER.unpack_from(raw, start)
    return (body_start, length, crc) if own == zlib.crc32(raw[start : body_start - 4]) else None


def _entry(body: bytes) -> Entry | None:
    """None for what no version wrote, whatever its CRC says."""
    try:
        if body[:1] == _ACK_KIND:
            return Acknowledged(body[1:].decode())
        if body[:1] != _PUT_KIND or len(body) < _PUT.size:
            return None
        _, *lengths = _PUT.unpack_from(body)
        parts, start = [], _PUT.size
        for length in lengths:
            parts.append(body[start : start + length])
            start += length
        return Record(parts[0].decode(), parts[1].decode(), parts[3], parts[2].decode()) if start == len(body) else None
    except UnicodeDecodeError:
        return None


def _next_record(raw: bytes, damaged: int, mark: bytes) -> int:
    """Where the first whole record after a damaged one begins; the end of the segment if there is none."""
    if not mark:
        return _next_old_record(raw, damaged)
    at = raw.find(mark, damaged + 1)
    while at >= 0 and _record_at(raw, at, mark) is None:
        at = raw.find(mark, at + 1)
    return at if at >= 0 else len(raw)


def _next_old_record(raw: bytes, damaged: int) -> int:
    header = _header_at(raw, damaged, b"")
    if header is not None and _record_at(raw, header[0] + header[1], b"") is not None:
        return header[0] + header[1]
    kinds = (_PUT_KIND[0], _ACK_KIND[0])
    for at in range(damaged + 1, len(raw) - _OLD_HEADER.size):
        if raw[at + _OLD_HEADER.size] in kinds and _record_at(raw, at, b"") is not None:
            return at
    return len(raw)


def _is_cut_off(raw: bytes, start: int, mark: bytes) -> bool:
    if not mark:  # without a CRC of the header, a cut record and a damaged length look the same
        return False
    rest = raw[start:]
    if len(rest) < _HEADER.size:
        return rest[:MARK_BYTES] == mark[: len(rest)]
    header = _header_at(raw, start, mark)
    return header is not None and header[0] + header[1] > len(raw)
