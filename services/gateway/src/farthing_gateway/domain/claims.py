"""Which idempotency keys were used, with which body, and whether their request still runs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from farthing_gateway.domain.canonical import Canonical
from farthing_gateway.domain.errors import idempotency_mismatch, in_progress
from farthing_gateway.domain.prompt import Prompt

WINDOW_S: Final = 24 * 3600.0


class State(Enum):
    """Where the request of a key stands."""

    RUNNING = auto()
    UNANSWERED = auto()
    """Ended without an answer, and may be tried again. Whatever was charged, another attempt takes its place."""
    ANSWERED = auto()


@dataclass(slots=True)
class Claim:
    """One idempotency key of one organisation, and the request that runs or ran under it: one for the books, however
    many attempts it takes."""

    request_id: str
    body: bytes
    started_s: float
    state: State = State.RUNNING


class Claims:
    """The keys of the last 24 hours that this gateway has seen, the oldest forgotten first beyond `limit`.

    Times are seconds since the epoch: the day is part of a request's id, since a key may be used anew after its window.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._claims: OrderedDict[tuple[str, str], Claim] = OrderedDict()

    def __len__(self) -> int:
        return len(self._claims)

    def claim(self, org: str, prompt: Prompt, now_s: float) -> Claim:
        """The claim of a request that may run now. IdempotencyMismatch for another body, InProgress while the twin
        runs."""
        self._expire(now_s)
        key, body = (org, prompt.idempotency_key), body_digest(prompt)
        known = self._claims.get(key)
        if known is None:
            known = self._claims[key] = Claim(derived_request_id(*key, body, now_s), body, now_s)
            return known
        if known.body != body:
            raise idempotency_mismatch()
        if known.state is State.RUNNING:
            raise in_progress()
        if known.state is State.UNANSWERED:
            known.state = State.RUNNING
        return known

    def _expire(self, now_s: float) -> None:
        while self._claims:
            key, oldest = next(iter(self._claims.items()))
            if len(self._claims) < self._limit and now_s - oldest.started_s < WINDOW_S:
                return
            del self._claims[key]


def derived_request_id(org: str, idempotency_key: str, body: bytes, now_s: float) -> str:
    """The request id that every gateway derives for a key and a body on the same day (UTC). Another body under the same
    key, which only the gateway that saw the first one can refuse, is another request and is charged as one."""
    form = Canonical(b"farthing request id v2").text(org).text(idempotency_key).text(body.hex())
    return f"q_{form.integer(int(now_s // WINDOW_S)).digest()[:16].hex()}"


def body_digest(prompt: Prompt) -> bytes:
    """SHA-256 of everything in a prompt but its idempotency key, as it was asked, before any default."""
    return Canonical(b"farthing body v2").value(replace(prompt, idempotency_key="")).digest()
