"""Bytes that say exactly one thing: the form of a request that digests are taken of."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

_length = struct.Struct(">Q").pack
_integer = struct.Struct(">q").pack
_real = struct.Struct(">d").pack


class Canonical:
    """Writes values so that two different sequences of values never give the same bytes.

    Every text is preceded by its length, every list by its count, every number has a fixed width; so no text can look
    like the end of one field and the beginning of the next. Callers write the same kinds of values in the same order
    under the same purpose.
    """

    __slots__ = ("_parts",)

    def __init__(self, purpose: bytes) -> None:
        self._parts = [_length(len(purpose)), purpose]

    def text(self, value: str) -> Canonical:
        """A string of any length."""
        raw = value.encode()
        self._parts += (_length(len(raw)), raw)
        return self

    def integer(self, value: int) -> Canonical:
        """A signed number of at most 64 bits."""
        self._parts.append(_integer(value))
        return self

    def real(self, value: float) -> Canonical:
        """A float; minus zero is zero."""
        self._parts.append(_real(value + 0.0))
        return self

    def texts(self, values: Iterable[str]) -> Canonical:
        """A list of strings."""
        listed = list(values)
        self.integer(len(listed))
        for value in listed:
            self.text(value)
        return self

    def digest(self) -> bytes:
        """SHA-256 of what was written: 32 bytes."""
        return hashlib.sha256(b"".join(self._parts)).digest()
