"""One request on its way through the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from farthing_gateway.domain.attempt import Attempt, new_attempt
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.eligibility import CacheUse
from farthing_gateway.domain.events import Degradation, Part
from farthing_gateway.domain.nearcache import Ticket
from farthing_gateway.domain.policy import OutageMode, Policy
from farthing_gateway.domain.prompt import Question
from farthing_kit.context import Priority, RequestContext


@dataclass(frozen=True, slots=True)
class Request:
    """What every step needs to know. `degradations` grows on the way, until the decision is told."""

    context: RequestContext
    policy: Policy
    question: Question
    key: CacheKey
    cache_use: CacheUse
    near_ticket: Ticket
    attempt: Attempt
    arrived_s: float
    degradations: list[Degradation] = field(default_factory=list)

    @property
    def org(self) -> str:
        """The tenant."""
        return self.context.principal.org

    @property
    def reservation_id(self) -> str:
        """What the call under this id reserves under."""
        return self.attempt.reservation_id(self.context.request_id)

    def degrade(self, part: Part, consequence: str) -> None:
        """Note that something could not be done as usual."""
        self.degradations.append(Degradation(part, consequence))

    def second_call(self, suffix: str) -> Request:
        """The same attempt, as a second call of a model makes it: under an id and a reservation of its own."""
        return replace(self, context=replace(self.context, request_id=self.context.request_id + suffix))

    def aside(self, suffix: str, tags: Mapping[str, str], arrived_s: float, now: datetime) -> Request:
        """The request as the mesh asks it once more for itself, a shadow or a refresh: a request of its own, charged to
        the same organisation, at low priority, with the mesh's tags in place of the caller's. Without accounting there
        is none: nothing is lent for it. Every field is named here, so that a new one is thought about."""
        request_id = self.context.request_id + suffix
        return Request(
            context=replace(self.context, request_id=request_id, priority=Priority.LOW),
            policy=replace(self.policy, outage_mode=OutageMode.DENY),
            question=replace(self.question, tags=tags),
            key=self.key,
            cache_use=self.cache_use,
            near_ticket=self.near_ticket,
            attempt=new_attempt(request_id, now),
            arrived_s=arrived_s,
            degradations=[],
        )
