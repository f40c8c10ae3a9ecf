"""Hits that cost something: what is held for them, told and booked, and what happens when it cannot be."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.catalogue import ModelPrice
from farthing_gateway.domain.costs import NOTHING
from farthing_gateway.domain.errors import AccountingUnavailable
from farthing_gateway.domain.events import Decision
from farthing_gateway.domain.model import CacheLevel, FinishReason, Tier
from farthing_gateway.domain.policy import OutageMode, SemanticCachePolicy
from farthing_gateway.domain.similar import Similar
from farthing_gateway.ports import Finished
from farthing_kit.errors import FarthingError
from farthing_kit.money import HitPrice, Millionths, NanoUsd, UnitPrices
from farthing_kit.testing.waiting import until
from farthing_kit.usage import TokenUsage
from services.gateway.tests.fakes import AWAY, Mesh, Told
from services.gateway.tests.values import USAGE, analysis, answer, ask, sampled

TENTH = HitPrice(3, Millionths(100_000))
CALL, COUNTERFACTUAL, PRICE = 12 * 20 + 5 * 60, 12 * 1000 + 5 * 4000, 54
UNPRICED = FarthingError("no price", reason=ErrorReason.ERROR_REASON_PRICE_MISSING)
SPENT = FarthingError("spent", reason=ErrorReason.ERROR_REASON_BUDGET_EXCEEDED)
FULL = FarthingError("full", reason=ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE)
SIMILAR = Similar(answer("Paris, as before."), True, False, 0.97, 0.99, 0.95, b"receipt")
EMBEDDED = analysis(embedding=b"\0\0\x80?" + bytes(4 * 383), encoder_sha256=b"e" * 32)
KEY: dict[str, Any] = {"idempotency_key": "k1"}


def charging(**changes: Any) -> Mesh:
    mesh = Mesh()
    set_policy(mesh, **changes)
    return mesh


def set_policy(mesh: Mesh, **changes: Any) -> None:
    semantic = SemanticCachePolicy(max_error_share=0.02, hit_price_share=TENTH.share)
    mesh.set_policy(**{"semantic_cache": semantic, **changes})


@pytest.fixture
def mesh() -> Mesh:
    return charging()


async def hit_of(mesh: Mesh, level: CacheLevel) -> Told:
    """A hit of a level, of an answer with the tokens of the tests."""
    if level is CacheLevel.SEMANTIC:
        mesh.classifier.analysis = EMBEDDED
        mesh.cache.similar = SIMILAR
    else:
        await mesh.ask(ask())
    if level is CacheLevel.EXACT:
        mesh.forget_near()
    told = await mesh.ask(ask())
    assert told.level is level
    return told


@pytest.mark.parametrize("level", [CacheLevel.NEAR, CacheLevel.EXACT, CacheLevel.SEMANTIC])
async def test_a_hit_of_every_level_is_held_told_and_booked_at_its_price(mesh: Mesh, level: CacheLevel) -> None:
    told = await hit_of(mesh, level)
    decision, costs = told.decision, told.final.costs
    assert (costs.cost, costs.counterfactual, costs.saved) == (PRICE, COUNTERFACTUAL, COUNTERFACTUAL - PRICE)
    assert (decision.reservation_id, decision.reserved) == (f"{mesh.usage.booked[0].attempt.id}-hit", PRICE)
    assert mesh.admission.held[decision.reservation_id] == ("small", USAGE)
    assert mesh.admission.hit_prices[decision.reservation_id] == TENTH
    [use] = mesh.usage.booked
    assert (use.price, use.reservation_id, use.level) == (TENTH, decision.reservation_id, level)
    assert use.quote is not None
    assert use.quote.model == "small"
    assert (told.final.usage.total, told.final.calls, told.degraded) == (0, (), set())
    assert decision.reservation_id not in mesh.admission.released


async def test_who_pays_nothing_for_hits_is_asked_for_nothing() -> None:
    mesh = Mesh()
    await mesh.ask(ask())
    before = mesh.admission.calls
    told = await mesh.ask(ask())
    assert (told.final.costs.cost, told.decision.reservation_id, mesh.admission.calls) == (0, "", before)
    assert mesh.usage.booked[0].price == HitPrice(3)


@pytest.mark.parametrize("level", [CacheLevel.NEAR, CacheLevel.EXACT, CacheLevel.SEMANTIC])
async def test_a_spent_budget_refuses_the_hit_before_a_word_of_it(mesh: Mesh, level: CacheLevel) -> None:
    await hit_of(mesh, level)
    if level is CacheLevel.EXACT:
        mesh.forget_near()
    mesh.admission.refusals["small"] = SPENT
    with pytest.raises(FarthingError) as refused:
        await anext(mesh.gateway.answer("fk_acme", ask()))
    assert refused.value is SPENT
    assert len(mesh.usage.booked) == 1


async def test_a_request_that_is_told_again_is_not_charged_again(mesh: Mesh) -> None:
    await mesh.ask(ask())
    hit = await mesh.ask(ask(**KEY))
    again = await mesh.ask(ask(**KEY))
    assert (hit.final.costs.cost, again.final.costs) == (PRICE, NOTHING)
    assert again.decision.request_id == hit.decision.request_id
    assert len(mesh.usage.booked) == 1


async def test_a_caller_who_leaves_a_hit_and_comes_again_is_booked_under_the_same_id(mesh: Mesh) -> None:
    await mesh.ask(ask())
    async with aclosing(mesh.gateway.answer("fk_acme", ask(**KEY))) as events:
        first = await anext(events)
    assert isinstance(first, Decision)
    again = await mesh.ask(ask(**KEY))
    assert again.decision.request_id == first.request_id
    assert again.decision.reservation_id != first.reservation_id
    assert {use.context.request_id for use in mesh.usage.booked} == {first.request_id}


async def test_a_twin_on_another_gateway_reserves_for_itself(mesh: Mesh) -> None:
    await mesh.ask(ask())
    first = await mesh.ask(ask(**KEY))
    mesh.claims._claims.clear()  # as on another gateway
    second = await mesh.ask(ask(**KEY))
    assert second.decision.request_id == first.decision.request_id
    assert second.decision.reservation_id != first.decision.reservation_id


async def test_what_cannot_be_written_down_is_free_and_given_back(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.usage.error = FULL
    told = await mesh.ask(ask())
    assert (told.final.costs.cost, told.final.costs.saved) == (0, COUNTERFACTUAL)
    assert told.degraded == {"ACCOUNTING"}
    assert mesh.admission.released == [told.decision.reservation_id]


async def test_an_answer_of_another_model_has_that_models_price(mesh: Mesh) -> None:
    mesh.classifier.analysis, mesh.cache.similar = EMBEDDED, replace(SIMILAR, answer=answer("Paris.", model="medium"))
    told = await mesh.ask(ask())
    assert told.final.costs.cost == (12 * 150 + 5 * 600) // 10
    assert mesh.admission.held[told.decision.reservation_id] == ("medium", USAGE)
    [use] = mesh.usage.booked
    assert use.quote is not None
    assert use.quote.model == "medium"


async def test_the_answer_of_a_model_without_a_price_is_free(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.admission.refusals["small"] = UNPRICED
    mesh.models.at_hand = replace(mesh.models.at_hand, prices={})
    told = await mesh.ask(ask())
    assert (told.level, told.final.costs, told.decision.reservation_id) == (CacheLevel.NEAR, NOTHING, "")
    assert told.degraded == {"ACCOUNTING"}
    assert (mesh.usage.booked[0].quote, mesh.usage.booked[0].reservation_id) == (None, "")


async def test_an_answer_without_tokens_costs_nothing(mesh: Mesh) -> None:
    mesh.scheduler.steps[-1] = Finished(FinishReason.STOP, TokenUsage())
    await mesh.ask(ask())
    before = mesh.admission.calls
    told = await mesh.ask(ask())
    assert (told.level, told.final.costs, mesh.admission.calls) == (CacheLevel.NEAR, NOTHING, before)


class TestAccountingAway:
    async def test_deny_refuses_a_hit_that_costs(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        mesh.admission.error = AWAY
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "deny"}

    async def test_allow_serves_and_books_it_without_a_reservation(self) -> None:
        mesh = charging(outage_mode=OutageMode.ALLOW)
        await mesh.ask(ask())
        mesh.admission.error = AWAY
        told = await mesh.ask(ask())
        assert (told.final.costs.cost, told.decision.reservation_id, told.degraded) == (PRICE, "", {"ACCOUNTING"})
        assert (mesh.usage.booked[0].reservation_id, mesh.usage.booked[0].price) == ("", TENTH)

    async def test_grace_lends_what_hits_cost_up_to_its_bound(self) -> None:
        mesh = charging(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(2 * PRICE + 1))
        await mesh.ask(ask())
        mesh.admission.error = AWAY
        for spent in (PRICE, 2 * PRICE):
            assert (await mesh.ask(ask())).final.costs.cost == PRICE
            assert mesh.grace.spent("acme") == spent
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "grace_spent"}

    async def test_what_was_lent_and_could_not_be_written_down_goes_back(self) -> None:
        mesh = charging(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(PRICE))
        await mesh.ask(ask())
        mesh.admission.error, mesh.usage.error = AWAY, FULL
        assert (await mesh.ask(ask())).final.costs.cost == 0
        assert mesh.grace.spent("acme") == 0

    async def test_without_prices_nothing_can_be_lent(self) -> None:
        mesh = charging(outage_mode=OutageMode.ALLOW)
        await mesh.ask(ask())
        mesh.admission.error = AWAY
        mesh.models.at_hand = replace(mesh.models.at_hand, prices={})
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "prices_unknown"}

    async def test_prices_that_only_accounting_knows_are_enough(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        mesh.models.at_hand = replace(mesh.models.at_hand, prices={})
        assert (await mesh.ask(ask())).final.costs.cost == PRICE


class TestFollowers:
    """Who reads along with another's answer has a hit of the level EXACT."""

    @pytest.fixture
    def mesh(self) -> Mesh:
        mesh = charging()
        mesh.line.now = None  # no near cache: each request gets as far as the cache
        return mesh

    async def leading(self, mesh: Mesh) -> "asyncio.Task[Told]":
        mesh.scheduler.pause_after = 2
        task = asyncio.create_task(self.collected(mesh))
        await mesh.scheduler.paused.wait()
        mesh.scheduler.pause_after = None
        await until(lambda: "".join(mesh.cache.published) == "Par")
        return task

    async def collected(self, mesh: Mesh) -> Told:
        small = ask(sampling=sampled(max_output_tokens=10))
        return Told(tuple([event async for event in mesh.gateway.answer("fk_acme", small)]))

    async def test_the_most_that_it_may_cost_is_held_and_what_it_was_is_booked(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        follower = asyncio.create_task(self.collected(mesh))
        await until(lambda: mesh.cache.followers == 1)
        mesh.scheduler.go_on.set()
        told, _ = await follower, await leader
        assert (told.text, told.level, told.final.costs.cost) == ("Paris.", CacheLevel.EXACT, PRICE)
        name = f"{mesh.usage.booked[-1].attempt.id}-follow"
        assert told.decision.reservation_id == name
        model, most = mesh.admission.held[name]
        assert (model, most.output, mesh.admission.hit_prices[name]) == ("large", 10, TENTH)
        assert told.decision.reserved is not None
        assert told.decision.reserved > PRICE
        [use] = mesh.usage.booked
        assert use.quote is not None
        assert (use.quote.model, use.price, use.reservation_id) == ("small", TENTH, name)

    async def test_the_most_is_that_of_the_dearest_model_whatever_its_tier(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        dear = ModelPrice("medium", Tier.MEDIUM, UnitPrices(1_000_000_000, output=5_000_000_000), 4)
        mesh.models.at_hand = replace(mesh.models.at_hand, prices={**mesh.models.at_hand.prices, "medium": dear})
        follower = asyncio.create_task(self.collected(mesh))
        await until(lambda: mesh.cache.followers == 1)
        mesh.scheduler.go_on.set()
        told, _ = await follower, await leader
        assert mesh.admission.held[told.decision.reservation_id][0] == "medium"
        assert told.final.costs.cost == PRICE

    async def test_what_a_model_wrote_whose_price_is_not_known_here_is_free(self, mesh: Mesh) -> None:
        """No other model's prices stand in: not those that it was held at."""
        leader = await self.leading(mesh)
        others = {name: price for name, price in mesh.models.at_hand.prices.items() if name != "small"}
        mesh.models.at_hand = replace(mesh.models.at_hand, prices=others)
        follower = asyncio.create_task(self.collected(mesh))
        await until(lambda: mesh.cache.followers == 1)
        mesh.scheduler.go_on.set()
        told, _ = await follower, await leader
        assert (told.text, told.level, told.final.costs) == ("Paris.", CacheLevel.EXACT, NOTHING)
        [use] = mesh.usage.booked
        assert (use.quote, use.reservation_id) == (None, told.decision.reservation_id)

    async def test_a_spent_budget_refuses_to_follow(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        mesh.admission.refusals["large"] = SPENT
        with pytest.raises(FarthingError) as refused:
            await self.collected(mesh)
        assert refused.value is SPENT
        mesh.scheduler.go_on.set()
        assert (await leader).text == "Paris."

    async def test_who_takes_over_gives_back_what_was_held_for_following(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        follower = asyncio.create_task(self.collected(mesh))
        await until(lambda: mesh.cache.followers == 1)
        leader.cancel()
        await asyncio.wait({leader})
        told = await follower
        await mesh.background.drain()
        assert told.decision.reservation_id in mesh.admission.released
        assert told.final.costs.cost == CALL
        assert mesh.usage.booked == []

    async def test_who_leaves_gives_it_back(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        async with aclosing(mesh.gateway.answer("fk_acme", ask(sampling=sampled(max_output_tokens=10)))) as events:
            decision = await anext(events)
        assert isinstance(decision, Decision)
        await mesh.background.drain()
        assert mesh.admission.released == [decision.reservation_id]
        mesh.scheduler.go_on.set()
        await leader

    async def test_without_prices_a_request_goes_alone(self, mesh: Mesh) -> None:
        leader = await self.leading(mesh)
        mesh.models.at_hand = replace(mesh.models.at_hand, prices={})
        told = await self.collected(mesh)
        assert (told.text, told.level) == ("Paris.", CacheLevel.NONE)
        mesh.scheduler.go_on.set()
        await leader
