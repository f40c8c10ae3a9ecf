"""What is recorded of a look-up for analysis: keyed digests, scores and costs; no text."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from farthing_cache.domain.veto import Veto

DIGEST_BYTES: Final = 8
NOBODY: Final = bytes(DIGEST_BYTES)
_FORM: Final = struct.Struct("<BBBq8s8s8s8sffq")
VERSION: Final = 1
# The numbers of vetoes in records: their order in the enumeration, from 1.
VETOES: Final = {"": 0, **{veto.value: number for number, veto in enumerate(Veto, start=1)}}


class Event(IntEnum):
    """What happened."""

    MISS = 1  # an exact look-up that found nothing
    EXACT = 2  # one that found an answer
    SEMANTIC = 3  # a look-up by meaning, whatever came of it
    STORE = 4  # an answer was kept


class Outcome(IntEnum):
    """What came of a look-up by meaning; 1 to 8 as in farthing.cache.v1.MissReason."""

    SERVED = 0
    NO_CANDIDATE = 1
    VETO = 2
    SCORE = 3
    EVIDENCE = 4
    NOT_ELIGIBLE = 5
    VERIFIER = 6
    GONE = 7
    EXPLORED = 8


@dataclass(frozen=True, slots=True)
class Record:
    """One event. `prompt` and `place` are digests of the last message and of all that it must share with an entry;
    `prefix` of what came before it; `near` of the nearest kept request. `cost_nano_usd` is what the answer cost,
    where it is known."""

    event: Event
    at_ms: int
    prompt: bytes
    place: bytes
    outcome: Outcome = Outcome.SERVED
    veto: int = 0
    prefix: bytes = NOBODY
    near: bytes = NOBODY
    similarity: float = 0.0
    score: float = 0.0
    cost_nano_usd: int = 0


def pack(record: Record) -> bytes:
    """A record in 63 bytes."""
    return _FORM.pack(
        VERSION << 4 | record.event,
        record.outcome,
        record.veto,
        record.at_ms,
        record.prompt,
        record.place,
        record.prefix,
        record.near,
        record.similarity,
        record.score,
        record.cost_nano_usd,
    )


def unpack(packed: bytes) -> Iterator[Record]:
    """The records of one entry of the log; those of another version are skipped."""
    whole = len(packed) - len(packed) % _FORM.size
    for head, outcome, veto, at, prompt, place, prefix, near, similarity, score, cost in _FORM.iter_unpack(
        packed[:whole]
    ):
        if head >> 4 == VERSION:
            yield Record(
                Event(head & 15), at, prompt, place, Outcome(outcome), veto, prefix, near, similarity, score, cost
            )
