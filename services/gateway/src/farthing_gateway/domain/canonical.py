"""Bytes that say exactly one thing: the form of a request that digests are taken of."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta

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

    def value(self, value: object) -> Canonical:
        """Anything that a request is made of, by what it is: a dataclass by its fields, all of them, a mapping by its
        keys in order. TypeError for a kind of value that has no form here yet."""
        match value:
            case None:
                self.text("none")
            case str():
                self.text("str").text(value)
            case bool() | int() | float() | timedelta():
                self._quantity(value)
            case Mapping():
                self.text("mapping").integer(len(value))
                for key in sorted(value):
                    self.value(key).value(value[key])
            case tuple():
                self.text("tuple").integer(len(value))
                for item in value:
                    self.value(item)
            case _ if is_dataclass(value):
                named = fields(value)
                self.text(type(value).__name__).integer(len(named))
                for field in named:
                    self.text(field.name).value(getattr(value, field.name))
            case _:
                raise TypeError(f"no canonical form for {type(value).__name__}")
        return self

    def _quantity(self, value: float | timedelta) -> None:
        """A member of an enumeration is its number, and minus zero is zero."""
        match value:
            case bool() | timedelta():
                self.text(type(value).__name__).text(repr(value))
            case int():
                self.text("int").text(str(int(value)))
            case float():
                self.text("float").text(repr(value + 0.0))

    def digest(self) -> bytes:
        """SHA-256 of what was written: 32 bytes."""
        return hashlib.sha256(b"".join(self._parts)).digest()
