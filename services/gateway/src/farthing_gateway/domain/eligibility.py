"""What the caches may do with a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from farthing_gateway.domain.cachekey import sharer_of
from farthing_gateway.domain.policy import CacheScope, Policy
from farthing_gateway.domain.prompt import Question
from farthing_kit.context import Principal


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Whether an answer may come from a cache, no older than `max_age`, and whether it may go to one."""

    read: bool
    write: bool
    max_age: timedelta | None = None

    @property
    def any(self) -> bool:
        """Whether the caches have anything to do with the request."""
        return self.read or self.write

    @property
    def shared(self) -> bool:
        """Whether one answer may serve all who ask the same at once."""
        return self.read and self.write


NONE = CacheUse(read=False, write=False)


def cache_use(question: Question, policy: Policy, principal: Principal) -> CacheUse:
    """Caches serve only where the policy enables them, and only requests whose answer would be the same each time:
    those at temperature 0. Sampled answers are asked for to differ; serving one twice would be a different product.
    Where teams or users share answers only among themselves, a key that names none has nobody to share with."""
    if not policy.cache_enabled or not question.sampling.deterministic:
        return NONE
    scope = policy.semantic_cache.scope
    if scope in (CacheScope.TEAM, CacheScope.USER) and not sharer_of(scope, principal):
        return NONE
    control = question.cache_control
    nothing_is_young_enough = control.max_age is not None and control.max_age <= timedelta(0)
    return CacheUse(
        read=not control.no_cache and not nothing_is_young_enough, write=not control.no_store, max_age=control.max_age
    )
