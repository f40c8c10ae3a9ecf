"""A request as the mesh asks it once more for itself."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from farthing_gateway.app.request import Request
from farthing_gateway.domain.attempt import new_attempt
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.eligibility import CacheUse
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.nearcache import Ticket
from farthing_gateway.domain.policy import OutageMode
from farthing_gateway.domain.prompt import CacheControl, Message, Question, Sampling
from farthing_kit.context import Principal, Priority, RequestContext, Role
from services.gateway.tests.values import policy

NOW = datetime(2026, 11, 28, tzinfo=UTC)
KEPT = {"key", "cache_use", "near_ticket"}
ANEW = {"context", "policy", "question", "attempt", "arrived_s", "degradations"}


def request() -> Request:
    """A request that something was missing for."""
    question = Question(
        (Message(1, "hi"),), Sampling(9, 0.0, 1.0, 0, ()), Tier.SMALL, "", CacheControl(), {"feature": "search"}
    )
    made = Request(
        context=RequestContext("q_1", Principal("acme"), Role.TENANT, Priority.NORMAL),
        policy=policy(outage_mode=OutageMode.ALLOW),
        question=question,
        key=CacheKey(b"c" * 32, b"p" * 32),
        cache_use=CacheUse(read=True, write=True),
        near_ticket=Ticket("acme", 1, 1),
        attempt=new_attempt("q_1", NOW),
        arrived_s=1.0,
    )
    made.degrade(Part.CACHE, "it was away")
    return made


def test_a_request_of_the_mesh_itself_is_one_of_its_own_in_every_field() -> None:
    asked = request()
    own = asked.aside("-shadow", {"farthing-purpose": "shadow"}, 2.0, NOW)
    assert {field.name for field in fields(Request)} == KEPT | ANEW, "a new field: what is it in a shadow or a refresh?"
    for name in KEPT:
        assert getattr(own, name) is getattr(asked, name)
    for name in ANEW:
        assert getattr(own, name) != getattr(asked, name)
    assert own.degradations == []
    assert own.context.request_id == own.attempt.request_id == "q_1-shadow"
    assert own.reservation_id == own.attempt.id != asked.attempt.id


def test_a_second_call_is_of_the_same_attempt_and_reserves_for_itself() -> None:
    asked = request()
    second = asked.second_call("-2")
    assert second.context.request_id == "q_1-2"
    assert second.attempt is asked.attempt
    assert second.reservation_id == f"{asked.reservation_id}-2"
    assert second.degradations is asked.degradations
