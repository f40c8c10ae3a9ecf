"""An answer that was paid for once, and the names under which it is found again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NewType

from farthing_kit.usage import TokenUsage

Org = NewType("Org", str)
Epoch = NewType("Epoch", int)

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The identity of a request within its organisation: two SHA-256 digests. Equal keys may be served the same
    answer."""

    compatibility: bytes
    prompt: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with its provenance: what making it took is what serving it again avoids."""

    text: str
    usage: TokenUsage
    tier: int
    model: str
    quantization: str
    created_at: datetime

    @property
    def size_bytes(self) -> int:
        """Length of the text in UTF-8: what the limit of an entry counts."""
        return len(self.text.encode())

    def is_younger_than(self, age: timedelta, now: datetime) -> bool:
        """Whether the answer was written less than `age` ago."""
        return now - self.created_at < age


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as a store holds it, and how much longer it may be served."""

    answer: Answer
    time_to_live: timedelta
