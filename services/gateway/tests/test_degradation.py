"""A part that is missing costs money, not answers; and nothing degrades silently."""

import asyncio

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.errors import AccountingUnavailable, ModelUnavailable
from farthing_gateway.domain.model import CacheLevel, Tier
from farthing_gateway.domain.policy import OutageMode
from farthing_gateway.ports import Finished
from farthing_kit.errors import DeadlineExceeded, FarthingError, InternalError, StoreUnavailable, Unavailable
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage
from services.gateway.tests.fakes import AWAY, Mesh
from services.gateway.tests.values import ask, sampled

OUTAGES = [AWAY, StoreUnavailable("redis"), DeadlineExceeded("late"), InternalError("internal")]
TINY = sampled(max_output_tokens=10)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


@pytest.mark.parametrize("error", OUTAGES)
async def test_without_the_cache_a_request_is_a_miss_and_nothing_is_kept(mesh: Mesh, error: FarthingError) -> None:
    mesh.cache.error = error
    for _ in range(2):
        told = await mesh.ask(ask())
        assert told.level is CacheLevel.NONE
        assert told.degraded == {"CACHE"}
    mesh.cache.error = None
    assert (await mesh.ask(ask())).level is CacheLevel.NONE


async def test_memory_answers_while_the_cache_is_away(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.cache.error = AWAY
    told = await mesh.ask(ask())
    assert (told.level, told.degraded) == (CacheLevel.NEAR, set())


@pytest.mark.parametrize("error", OUTAGES)
async def test_without_the_classifier_the_policys_default_tier_answers(mesh: Mesh, error: FarthingError) -> None:
    mesh.classifier.error = error
    told = await mesh.ask(ask())
    assert told.decision.tier is Tier.MEDIUM
    assert told.degraded == {"CLASSIFIER"}
    assert told.decision.analysis is None
    assert "MEDIUM" in told.decision.degradations[0].consequence


async def test_a_missing_classifier_does_not_matter_where_the_caller_named_the_tier(mesh: Mesh) -> None:
    mesh.classifier.error = AWAY
    assert (await mesh.ask(ask(tier=1))).degraded == set()


async def asks_until_refused(mesh: Mesh) -> FarthingError:
    for number in range(20):
        try:
            await mesh.ask(ask(f"Question {number:02}", sampling=TINY))
        except FarthingError as error:
            return error
    raise AssertionError("nothing was refused")


class TestAccountingAway:
    async def test_deny_refuses_and_runs_nothing(self, mesh: Mesh) -> None:
        mesh.admission.error = AWAY
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "deny"}
        assert refused.value.retry_after_s is not None
        assert mesh.scheduler.jobs == []

    async def test_allow_serves_at_known_prices_without_a_reservation(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.ALLOW)
        mesh.admission.error = AWAY
        told = await mesh.ask(ask())
        assert told.degraded == {"ACCOUNTING"}
        assert told.decision.reservation_id == ""
        assert told.decision.reserved is None
        assert told.final.costs.cost == 12 * 20 + 5 * 60
        assert mesh.scheduler.jobs[0][1].reservation_id == ""

    async def test_grace_serves_up_to_its_bound_and_then_refuses(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(5_000))
        mesh.admission.error = AWAY
        refused = await asks_until_refused(mesh)
        assert refused.metadata == {"policy": "grace_spent"}
        # Each is lent 1,500 at worst and costs 540: seven fit, since what was not used came back.
        assert len(mesh.scheduler.jobs) == 7
        assert mesh.grace.spent("acme") == 7 * 540

    async def test_grace_is_bounded_also_for_requests_at_once(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(2_500))
        mesh.admission.error = AWAY
        mesh.scheduler.pause_after = 1
        first = mesh.gateway.answer("fk_acme", ask("One?", sampling=TINY))
        await anext(first)
        with pytest.raises(AccountingUnavailable):
            await mesh.ask(ask("Two?", sampling=TINY))
        lent = mesh.grace.spent("acme")
        await first.aclose()
        assert mesh.grace.spent("acme") == lent > 0  # the worker that had begun may have written something

    async def test_what_was_lent_comes_back_where_no_worker_began(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(2_500))
        mesh.admission.error = AWAY
        mesh.scheduler.error = AWAY
        with pytest.raises(FarthingError):
            await mesh.ask(ask("One?", sampling=TINY))
        assert mesh.grace.spent("acme") == 0

    async def test_a_generation_that_costs_more_than_its_bound_still_counts(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(100_000))
        mesh.admission.error = AWAY
        mesh.scheduler.steps[-1] = Finished(mesh.scheduler.steps[-1].finish_reason, TokenUsage(1000, output=0))  # type: ignore[union-attr]
        await mesh.ask(ask("x", sampling=TINY))
        assert mesh.grace.spent("acme") == 1000 * 20

    async def test_without_prices_nothing_can_be_lent(self, mesh: Mesh) -> None:
        mesh.set_policy(outage_mode=OutageMode.ALLOW)
        mesh.admission.error = mesh.prices.error = AWAY
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "prices_unknown"}

    async def test_a_known_key_serves_from_memory_and_says_so(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        mesh.keys.error = AWAY
        assert (await mesh.ask(ask())).degraded == set()  # still fresh
        await mesh.clock.advance(61)
        assert (await mesh.ask(ask())).degraded == {"AUTHENTICATION"}
        await mesh.clock.advance(300)
        with pytest.raises(AccountingUnavailable):
            await mesh.ask(ask())

    async def test_a_key_nobody_remembers_cannot_be_served(self, mesh: Mesh) -> None:
        mesh.keys.error = AWAY
        with pytest.raises(AccountingUnavailable) as refused:
            await mesh.ask(ask())
        assert refused.value.metadata == {"policy": "key_unknown"}

    async def test_a_hit_needs_no_accounting_but_says_when_its_saving_is_unknown(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        mesh.admission.error = AWAY
        assert (await mesh.ask(ask())).degraded == set()
        mesh.models.at_hand = type(mesh.models.at_hand)()
        told = await mesh.ask(ask())
        assert told.degraded == {"ACCOUNTING"}
        assert told.final.costs.saved == 0


async def test_a_hit_whose_saving_cannot_be_written_down_is_served(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.usage.error = FarthingError("full", reason=ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE)
    told = await mesh.ask(ask())
    assert (told.level, told.degraded) == (CacheLevel.NEAR, {"ACCOUNTING"})


async def test_several_missing_parts_are_all_named(mesh: Mesh) -> None:
    mesh.set_policy(outage_mode=OutageMode.ALLOW)
    await mesh.ask(ask("warm up"))
    mesh.cache.error = mesh.classifier.error = mesh.admission.error = mesh.keys.error = AWAY
    await mesh.clock.advance(61)
    told = await mesh.ask(ask())
    assert told.degraded == {"CACHE", "CLASSIFIER", "ACCOUNTING", "AUTHENTICATION"}
    assert mesh.watcher.decisions[-1] == told.decision
    assert told.text == "Paris."


async def test_models_that_were_never_learnt_are_asked_for_and_then_said_to_be_missing(mesh: Mesh) -> None:
    mesh.pools.error = Unavailable("away")
    with pytest.raises(ModelUnavailable) as refused:
        await mesh.ask(ask())
    assert refused.value.retry_after_s is not None
    mesh.pools.error = None
    assert (await mesh.ask(ask())).text == "Paris."


async def test_the_catalogue_lives_on_while_inference_is_away(mesh: Mesh) -> None:
    assert await mesh.models.refresh()
    mesh.pools.error = mesh.prices.error = AWAY
    assert not await mesh.models.refresh()
    assert len((await mesh.gateway.list_models("fk_acme")).models) == 3
    assert (await mesh.ask(ask())).text == "Paris."


async def test_the_catalogue_is_refreshed_in_its_time_and_sooner_after_a_failure(mesh: Mesh) -> None:
    task = asyncio.ensure_future(mesh.models.refresh_forever())
    await mesh.clock.advance(0.0)
    mesh.pools.error = AWAY
    await mesh.clock.advance(10.0)
    assert mesh.pools.calls == 2
    await mesh.clock.advance(1.0)
    assert mesh.pools.calls == 3
    task.cancel()
