"""The identity of a request for the caches: what must be equal for one answer to stand for another."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from farthing_gateway.domain.canonical import Canonical
from farthing_gateway.domain.policy import CacheScope, Policy
from farthing_gateway.domain.prompt import Question
from farthing_kit.context import Principal

# What a question has that shapes no answer, and what is written in another way. Whatever else it has shapes one.
NO_SHAPE: Final = frozenset({"cache_control", "tags", "session_id", "messages", "quality_floor"})


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Two digests: everything that shapes an answer besides the last message, and the last message; and who shares the
    answer. `sharer` is the team or user of a narrower scope: keys of two of them are never equal."""

    compatibility: bytes
    prompt: bytes
    scope: CacheScope = CacheScope.UNSPECIFIED
    sharer: str = ""


def cache_key(question: Question, policy: Policy, principal: Principal) -> CacheKey:
    """The key within the organisation, which is not part of it: partitions are made by the cache from the signed
    context, and by the near cache from its own.

    Earlier messages, the system prompt among them, belong to the compatibility digest: the same last words after
    another history are another question. Cache control, tags, priority and session shape no answer and are left out.
    """
    scope = policy.semantic_cache.scope
    return CacheKey(
        _compatibility(question, policy.version), _last_message(question), scope, sharer_of(scope, principal)
    )


def sharer_of(scope: CacheScope, principal: Principal) -> str:
    """Whom an answer is kept for within the organisation: nobody in particular, or the team or user that the API key
    names; empty also when it names none."""
    return {CacheScope.TEAM: principal.team, CacheScope.USER: principal.user}.get(scope, "")


def circle_of(policy: Policy, principal: Principal) -> str:
    """Within whom a repetition under the same idempotency key hears the first answer again: the organisation, or,
    where answers are shared more narrowly, the team, the user, or else the API key."""
    scope = policy.semantic_cache.scope
    if scope not in (CacheScope.TEAM, CacheScope.USER):
        return principal.org
    return f"{principal.org}/{scope.name}/{sharer_of(scope, principal) or principal.key_id}"


def prefix_digest(question: Question) -> bytes:
    """SHA-256 of everything before the last message, for the analysis of shared prefixes; empty where there is none."""
    earlier = question.messages[:-1]
    return Canonical(b"farthing prefix v2").value(earlier).digest() if earlier else b""


def _compatibility(question: Question, policy_version: int) -> bytes:
    form = Canonical(b"farthing compatibility v3").integer(policy_version)
    for field in fields(question):
        if field.name not in NO_SHAPE:
            form.text(field.name).value(getattr(question, field.name))
    # A lesser tier's answer must not serve who asked for a better one; no floor is one of 0.
    form.value(question.quality_floor or 0.0)
    return form.value(question.messages[:-1]).digest()


def _last_message(question: Question) -> bytes:
    return Canonical(b"farthing prompt v2").value(question.messages[-1]).digest()
