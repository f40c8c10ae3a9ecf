"""Answers that are being made: leases, and a stream that many may follow from its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one answer, for a while. Who holds a token that the store does not know any more has lost
    it."""

    token: bytes
    time_to_live: timedelta


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim led to: a lease, or somebody to follow, or neither (too many leaders were lost)."""

    lease: Lease | None = None
    follow: bool = False
    takeover: bool = False


class Stage(Enum):
    """How far an answer is."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Progress:
    """What is new of an answer that is being made, since `attempt` and an offset in it: `text` continues it, or,
    under a new attempt, is everything since the beginning. `provenance` is a serialised answer without its text;
    `lease` is set when the asker has taken over."""

    stage: Stage
    attempt: int = 0
    text: bytes = b""
    provenance: bytes = b""
    reason: str = ""
    lease: Lease | None = None


def continuation(sent: int, before: bytes, now: bytes) -> bytes | None:
    """What a follower is to be sent next, when of `before` the first `sent` bytes were sent and the answer has become
    `now`: empty while `now` is still catching up, None when it does not begin as what was sent."""
    shared = min(sent, len(now))
    if before[:shared] != now[:shared]:
        return None
    return now[sent:]
