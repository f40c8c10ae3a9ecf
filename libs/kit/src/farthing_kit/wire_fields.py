"""How many fields a message has, counted on the wire before anything is built of it.

Two bytes on the wire can become an object of a hundred: a message of a few MiB with millions of empty parts blocks the
loop for seconds and takes hundreds of MiB, although the parts are refused afterwards. Counting stops at the bound, so
that it takes at most about a millisecond for each thousand fields of it, whatever comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_VARINT: Final = 0
_FIXED_64: Final = 1
_BYTES: Final = 2
_FIXED_32: Final = 5
_MAX_VARINT_BYTES: Final = 10
_F = FieldDescriptor
_WIDTHS: Final = {
    _F.TYPE_DOUBLE: 8,
    _F.TYPE_FIXED64: 8,
    _F.TYPE_SFIXED64: 8,
    _F.TYPE_FLOAT: 4,
    _F.TYPE_FIXED32: 4,
    _F.TYPE_SFIXED32: 4,
}
_TEXTS: Final = frozenset({_F.TYPE_STRING, _F.TYPE_BYTES})

_Shape = Mapping[int, Descriptor | int]


class NotAMessage(Exception):
    """The bytes are no message: they end too early, or hold what no field can be."""


def has_more_than(most: int, raw: bytes, kind: Descriptor) -> bool:
    """Whether a message has more fields than `most`, those of its parts and the elements of packed lists included. Of
    bytes that are no message, NotAMessage, if that is seen before the bound."""
    if len(raw) <= most:  # a field has two bytes at least
        return False
    shape, at, end, count = _shape(kind), 0, len(raw), 0
    outer: list[tuple[_Shape, int]] = []
    while True:
        if at == end:
            if not outer:
                return False
            shape, end = outer.pop()
            continue
        tag, at = _varint(raw, at, end)
        count += 1
        if tag & 7 == _BYTES:
            length, at = _varint(raw, at, end)
            part = shape.get(tag >> 3)
            if length > end - at:
                raise NotAMessage
            if part is not None and not isinstance(part, int):
                outer.append((shape, end))
                shape, end = _shape(part), at + length
                length = 0
            elif part is not None:
                count += length // part
            at += length
        else:
            at = _after_number(tag & 7, raw, at, end)
        if count > most:
            return True


@cache
def _shape(kind: Descriptor) -> _Shape:
    """Of each field that may hold more than one value in its bytes: the message inside, or the least bytes of an
    element of a list."""
    found: dict[int, Descriptor | int] = {}
    for field in kind.fields:
        if field.message_type is not None:
            found[field.number] = field.message_type
        elif field.type not in _TEXTS:
            found[field.number] = _WIDTHS.get(field.type, 1)
    return found


def _after_number(kind: int, raw: bytes, at: int, end: int) -> int:
    if kind == _VARINT:
        return _varint(raw, at, end)[1]
    if kind == _FIXED_64 and at + 8 <= end:
        return at + 8
    if kind == _FIXED_32 and at + 4 <= end:
        return at + 4
    raise NotAMessage  # it ends too early, or is of a group: contracts of this mesh have none


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(end, at + _MAX_VARINT_BYTES)):
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise NotAMessage
