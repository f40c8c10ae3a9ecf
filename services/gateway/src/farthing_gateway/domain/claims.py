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
    DONE = auto()


@dataclass(slots=True)
class Claim:
    """One idempotency key of one organisation. `attempt` counts the calls that ran under it, from 1."""

    request_id: str
    body: bytes
    started_s: float
    state: State = State.RUNNING
    attempt: int = 1

    @property
    def reservation_id(self) -> str:
        """A retry may choose another model than the first attempt, so it reserves anew; the first attempt reserves
        under the request id itself, so that twins on two gateways meet in accounting."""
        return self.request_id if self.attempt == 1 else f"{self.request_id}.{self.attempt}"


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
            known = self._claims[key] = Claim(derived_request_id(org, prompt.idempotency_key, now_s), body, now_s)
            return known
        if known.body != body:
            raise idempotency_mismatch()
        if known.state is State.RUNNING:
            raise in_progress()
        if known.state is State.FAILED:
            known.state, known.attempt = State.RUNNING, known.attempt + 1
        return known

    def rerun(self, claim: Claim) -> None:
        """The finished request must run again: its answer is no longer at hand."""
        claim.state, claim.attempt = State.RUNNING, claim.attempt + 1

    def finish(self, claim: Claim, *, done: bool) -> None:
        """The request ended: with an answer, or in a way that allows another attempt."""
        claim.state = State.DONE if done else State.FAILED

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
    form.integer(len(prompt.tags))
    for key, value in sorted(prompt.tags.items()):
        form.text(key).text(value)
    return form.digest()
