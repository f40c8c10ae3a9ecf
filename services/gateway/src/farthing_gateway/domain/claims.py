"""Which idempotency keys were used, with which body, and whether their request still runs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from farthing_gateway.domain.canonical import Canonical
from farthing_gateway.domain.errors import idempotency_mismatch, in_progress
from farthing_gateway.domain.prompt import Prompt

WINDOW_S: Final = 24 * 3600.0


class State(Enum):
    """Where the request of a key stands."""

    RUNNING = auto()
    FAILED = auto()
    """Ended without an answer, and nothing was charged."""
    BROKEN_OFF = auto()
    """Ended without its end, and what had been generated may be charged."""
    DONE = auto()


@dataclass(slots=True)
class Claim:
    """One idempotency key of one organisation, and the call that runs or ran under it."""

    base_id: str
    body: bytes
    started_s: float
    request_id: str
    reservation_id: str
    state: State = State.RUNNING
    attempt: int = 1

    def begin_again(self, *, charged: bool) -> None:
        """Another attempt runs. It may choose another model, so it reserves anew. If the one before may have been
        charged, it keeps that one's request id, under which the ledger books but once; the queue refuses an id that it
        has seen for two minutes, so if nothing was charged, a new id gets the attempt through at once."""
        self.state = State.RUNNING
        self.attempt += 1
        if charged:
            self.reservation_id = f"{self.request_id}-{self.attempt}"
        else:
            self.request_id = self.reservation_id = f"{self.base_id}-{self.attempt}"


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
            derived = derived_request_id(org, prompt.idempotency_key, now_s)
            known = self._claims[key] = Claim(derived, body, now_s, request_id=derived, reservation_id=derived)
            return known
        if known.body != body:
            raise idempotency_mismatch()
        if known.state is State.RUNNING:
            raise in_progress()
        if known.state is not State.DONE:
            known.begin_again(charged=known.state is State.BROKEN_OFF)
        return known

    def _expire(self, now_s: float) -> None:
        while self._claims:
            key, oldest = next(iter(self._claims.items()))
            if len(self._claims) < self._limit and now_s - oldest.started_s < WINDOW_S:
                return
            del self._claims[key]


def derived_request_id(org: str, idempotency_key: str, now_s: float) -> str:
    """The request id that every gateway derives for a key on the same day (UTC)."""
    raw = Canonical(b"farthing request id v1").text(org).text(idempotency_key).integer(int(now_s // WINDOW_S))
    return f"q_{raw.digest()[:16].hex()}"


def body_digest(prompt: Prompt) -> bytes:
    """SHA-256 of everything in a prompt but its idempotency key, as it was asked, before any default."""
    asked, control = prompt.sampling, prompt.cache_control
    form = Canonical(b"farthing body v1").integer(len(prompt.messages))
    for message in prompt.messages:
        form.integer(message.role).text(message.content)
    form.texts(
        "" if value is None else repr(value) for value in (asked.max_output_tokens, asked.temperature, asked.top_p)
    )
    form.integer(asked.seed).texts(asked.stop).integer(prompt.tier).text(prompt.model)
    form.integer(control.no_cache).integer(control.no_store).text(repr(control.max_age)).integer(prompt.priority)
    form.text(prompt.session_id).text("" if prompt.quality_floor is None else repr(prompt.quality_floor))
    form.integer(len(prompt.tags))
    for key, value in sorted(prompt.tags.items()):
        form.text(key).text(value)
    return form.digest()
