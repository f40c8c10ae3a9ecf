"""One request on its way through the mesh."""

from __future__ import annotations

from dataclasses import dataclass, field

from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.eligibility import CacheUse
from farthing_gateway.domain.events import Degradation, Part
from farthing_gateway.domain.nearcache import Ticket
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import Question
from farthing_kit.context import RequestContext


@dataclass(frozen=True, slots=True)
class Request:
    """What every step needs to know. `degradations` grows on the way, until the decision is told; `charged` has the ids
    under which something is booked that costs, calls of models or a hit, also what the caller has not heard of."""

    context: RequestContext
    policy: Policy
    question: Question
    key: CacheKey
    cache_use: CacheUse
    near_ticket: Ticket
    reservation_id: str
    arrived_s: float
    degradations: list[Degradation] = field(default_factory=list)
    charged: set[str] = field(default_factory=set)

    @property
    def org(self) -> str:
        """The tenant."""
        return self.context.principal.org

    def degrade(self, part: Part, consequence: str) -> None:
        """Note that something could not be done as usual."""
        self.degradations.append(Degradation(part, consequence))
