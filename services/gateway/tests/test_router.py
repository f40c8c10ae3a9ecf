"""What is remembered between decisions: sessions, the pace of budgets, spending targets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.objectives import RoutingReason
from farthing_gateway.domain.pace import Paces, paced_floor, paced_target
from farthing_gateway.domain.policy import FixedTier, RoutingPolicy, SpendingTarget
from farthing_gateway.domain.prompt import CacheControl
from farthing_gateway.domain.sessions import SessionKey, Sessions
from farthing_kit.context import Principal
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import NanoUsd
from services.gateway.tests.fakes import AWAY, Mesh, Told
from services.gateway.tests.values import analysis, ask

EASY, HARD = analysis(0.9, 0.95, 0.98), analysis(0.1, 0.3, 0.8)
UNCACHED = CacheControl(no_cache=True, no_store=True)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def reason(told: Told) -> RoutingReason:
    assert told.decision.routing is not None
    return told.decision.routing.reason


class TestSessions:
    LIFE = timedelta(minutes=10)

    @pytest.fixture
    def mesh(self) -> Mesh:
        mesh = Mesh()
        mesh.set_policy(routing=RoutingPolicy(session_time_to_live=self.LIFE))
        return mesh

    async def say(self, mesh: Mesh, judged: Any, session_id: str = "s", key: str = "fk_acme") -> Told:
        mesh.classifier.analysis = judged
        return await mesh.ask(ask(session_id=session_id, cache_control=UNCACHED), key)

    async def test_a_session_goes_up_where_needed_and_never_down(self, mesh: Mesh) -> None:
        tiers = [(await self.say(mesh, judged)).decision.tier for judged in (EASY, HARD, EASY, EASY)]
        assert tiers == [Tier.SMALL, Tier.LARGE, Tier.LARGE, Tier.LARGE]

    async def test_a_session_is_over_when_it_was_not_heard_of_for_long(self, mesh: Mesh) -> None:
        await self.say(mesh, HARD)
        await mesh.clock.advance(self.LIFE.total_seconds() - 1)
        assert reason(await self.say(mesh, EASY)) is RoutingReason.SESSION
        await mesh.clock.advance(self.LIFE.total_seconds() - 1)  # from the last request on, not from the first
        assert (await self.say(mesh, EASY)).decision.tier is Tier.LARGE
        await mesh.clock.advance(self.LIFE.total_seconds())
        assert (await self.say(mesh, EASY)).decision.tier is Tier.SMALL

    async def test_another_session_or_user_is_not_held_to_it(self, mesh: Mesh) -> None:
        await self.say(mesh, HARD)
        assert (await self.say(mesh, EASY, session_id="t")).decision.tier is Tier.SMALL
        grant = mesh.keys.grants["fk_acme"]
        mesh.keys.grants["fk_other"] = replace(grant, principal=Principal("acme", "search", "u2", "k_other"))
        assert (await self.say(mesh, EASY, key="fk_other")).decision.tier is Tier.SMALL

    async def test_a_policy_without_sessions_keeps_none(self, mesh: Mesh) -> None:
        mesh.set_policy(routing=RoutingPolicy())
        await self.say(mesh, HARD)
        assert (await self.say(mesh, EASY)).decision.tier is Tier.SMALL

    async def test_a_request_that_names_its_tier_does_not_move_the_session(self, mesh: Mesh) -> None:
        await self.say(mesh, EASY)
        await mesh.ask(ask(session_id="s", tier=3, cache_control=UNCACHED))
        assert (await self.say(mesh, EASY)).decision.tier is Tier.SMALL

    async def test_a_session_id_has_at_most_128_characters(self, mesh: Mesh) -> None:
        with pytest.raises(InvalidArgument) as refused:
            await mesh.ask(ask(session_id="s" * 129))
        assert refused.value.fields[0].field == "prompt.session_id"

    def test_the_memory_is_bounded(self) -> None:
        sessions = Sessions(limit=2)
        keys = [SessionKey("acme", "", str(number)) for number in range(3)]
        for key in keys:
            sessions.stay(key, Tier.LARGE, 0.0, 60.0)
        assert len(sessions) == 2
        assert [sessions.tier(key, 1.0) for key in keys] == [Tier.UNSPECIFIED, Tier.LARGE, Tier.LARGE]

    def test_a_lesser_tier_that_stands_in_does_not_take_the_session_down(self) -> None:
        sessions, key = Sessions(), SessionKey("acme", "", "s")
        sessions.stay(key, Tier.LARGE, 0.0, 60.0)
        sessions.stay(key, Tier.SMALL, 1.0, 60.0)
        assert sessions.tier(key, 2.0) is Tier.LARGE


class TestBudgetPace:
    async def test_the_pace_that_a_reservation_tells_lowers_the_next_floor(self, mesh: Mesh) -> None:
        mesh.classifier.analysis = analysis(0.6, 0.75, 0.9)
        mesh.admission.budget_pace = 1.6
        first, second = [await mesh.ask(ask(cache_control=UNCACHED)) for _ in range(2)]
        assert (first.decision.tier, second.decision.tier) == (Tier.MEDIUM, Tier.SMALL)
        assert "1.6 times as fast as it lasts: floor 0.70 → 0.58" in second.decision.explanation
        assert second.decision.routing is not None
        assert second.decision.routing.budget_pace == 1.6

    async def test_an_old_pace_says_nothing(self, mesh: Mesh) -> None:
        mesh.classifier.analysis = analysis(0.6, 0.75, 0.9)
        mesh.admission.budget_pace = 1.6
        await mesh.ask(ask(cache_control=UNCACHED))
        await mesh.clock.advance(600.0)
        assert (await mesh.ask(ask(cache_control=UNCACHED))).decision.tier is Tier.MEDIUM

    def test_the_memory_is_bounded(self) -> None:
        paces = Paces(limit=2)
        for number in range(3):
            paces.remember(f"k_{number}", 1.5, 0.0)
        assert len(paces) == 2
        assert (paces.of("k_0", 1.0), paces.of("k_2", 1.0)) == (0.0, 1.5)

    @given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.0, 10.0), st.floats(0.0, 10.0))
    def test_a_faster_pace_never_raises_a_floor_and_never_takes_it_below_the_least(
        self, floor: float, least: float, one: float, other: float
    ) -> None:
        slow, fast = sorted((one, other))
        assert paced_floor(floor, least, fast) <= paced_floor(floor, least, slow) <= floor
        assert paced_floor(floor, least, fast) >= min(floor, least)

    @pytest.mark.parametrize(("pace", "target"), [(0.0, 900), (1.0, 900), (1.5, 600), (2.0, 450), (9.0, 450)])
    def test_a_spending_target_shrinks_to_what_the_budget_lasts_for(self, pace: float, target: int) -> None:
        assert paced_target(NanoUsd(900), pace) == target


class TestSpendingTarget:
    async def test_real_costs_steer_the_next_choices(self, mesh: Mesh) -> None:
        mesh.classifier.analysis = HARD
        mesh.set_policy(routing=RoutingPolicy(objective=SpendingTarget(NanoUsd(20_000))))
        told = [await mesh.ask(ask(cache_control=UNCACHED)) for _ in range(400)]
        assert {reason(each) for each in told} == {RoutingReason.SPENDING_TARGET}
        spent = [each.final.costs.cost for each in told]
        assert {each.decision.tier for each in told} > {Tier.LARGE}
        assert 0.8 * 20_000 <= sum(spent[200:]) / 200 <= 1.05 * 20_000

    async def test_what_failed_before_it_began_costs_the_target_nothing(self, mesh: Mesh) -> None:
        mesh.classifier.analysis = HARD
        objective = SpendingTarget(NanoUsd(40_000))
        mesh.set_policy(routing=RoutingPolicy(objective=objective))
        mesh.scheduler.error = AWAY
        for _ in range(30):
            with pytest.raises(type(AWAY)):
                await mesh.ask(ask(cache_control=UNCACHED))
        mesh.scheduler.error = None
        assert (await mesh.ask(ask(cache_control=UNCACHED))).decision.tier is Tier.LARGE


async def test_a_fixed_tier_spares_the_classifier(mesh: Mesh) -> None:
    mesh.set_policy(routing=RoutingPolicy(objective=FixedTier(Tier.LARGE)))
    told = await mesh.ask(ask())
    assert (told.decision.tier, reason(told)) == (Tier.LARGE, RoutingReason.FIXED_TIER)
    assert mesh.classifier.calls == 0


async def test_a_floor_of_the_caller_has_answers_of_its_own(mesh: Mesh) -> None:
    mesh.classifier.analysis = analysis(0.75, 0.85, 0.98)
    assert (await mesh.ask(ask())).decision.tier is Tier.SMALL
    assert (await mesh.ask(ask(quality_floor=0.9))).decision.tier is Tier.LARGE
    assert [(await mesh.ask(each)).decision.tier for each in (ask(), ask(quality_floor=0.9))] == [
        Tier.SMALL,
        Tier.LARGE,
    ]


async def test_the_embedding_is_not_asked_for_while_nobody_wants_it(mesh: Mesh) -> None:
    await mesh.ask(ask())
    assert mesh.classifier.embeddings == [False]
