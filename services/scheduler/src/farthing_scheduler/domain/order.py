"""Which replies go on to the caller: in order, of one attempt, with nothing missing."""

from __future__ import annotations

from enum import Enum

from farthing_scheduler.domain.job import Reply


class Verdict(Enum):
    """What to do with a reply."""

    FORWARD = "forward"
    IGNORE = "ignore"
    LOST = "lost"


class ReplyOrder:
    """The rule, for one request. Core NATS may lose messages and a worker may die, and a caller must never read an
    answer with a hole in it, nor one that begins twice:

    - a gap in the numbers is the end (LOST);
    - a later attempt takes over while the caller has no text, and is the end once it has;
    - what an overtaken attempt still says is ignored.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.sequence = 0
        self.has_text = False

    def accept(self, reply: Reply) -> Verdict:
        """Judge a reply, and count it if it goes on."""
        if reply.attempt < self.attempt:
            return Verdict.IGNORE
        if reply.attempt > self.attempt and not self.begin(reply.attempt):
            return Verdict.LOST
        if reply.is_sign_of_life:
            return Verdict.IGNORE if reply.sequence <= self.sequence else Verdict.LOST
        if reply.sequence <= self.sequence:
            return Verdict.IGNORE
        if reply.sequence != self.sequence + 1:
            return Verdict.LOST
        self.sequence = reply.sequence
        self.has_text = self.has_text or (reply.chunk is not None and reply.chunk.text != "")
        return Verdict.FORWARD

    def begin(self, attempt: int) -> bool:
        """Let an attempt take over; False if it may not, because the caller has text of an earlier one."""
        if attempt <= self.attempt:
            return attempt == self.attempt
        if self.has_text:
            return False
        self.attempt = attempt
        self.sequence = 0
        return True
