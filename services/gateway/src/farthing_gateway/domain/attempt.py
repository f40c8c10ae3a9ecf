"""One try at answering a request of a caller: what the queue, the books and the reservations tell tries apart by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from farthing_kit.context import new_request_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """`request_id` is the caller's request, the same for every attempt at it; `id` is this attempt's own, made anew
    whenever a gateway begins, so that nobody else can make what belongs to it."""

    request_id: str
    id: str
    begun_at: datetime

    def reservation_id(self, call_id: str) -> str:
        """The reservation of one call of this attempt: the first has the request's id, later ones a suffix to it."""
        return self.id + call_id.removeprefix(self.request_id)


def new_attempt(request_id: str, now: datetime) -> Attempt:
    """An attempt that begins now."""
    return Attempt(request_id, f"a_{new_request_id().removeprefix('q_')}", now)
