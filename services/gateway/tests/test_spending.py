"""Spending targets: the average cost meets them, and quality is what the money can buy. On simulated streams."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.objectives import best_for_money
from farthing_gateway.domain.options import TierOption
from farthing_gateway.domain.spending import CREDIT_REQUESTS, SpendingAccount, SpendingAccounts
from farthing_kit.money import NanoUsd
from services.gateway.tests.values import MODELS

PRICES = (100, 200, 900)  # nano-dollars for a token
Options = tuple[TierOption, ...]


def stream(count: int, seed: int, difficulty: float = 0.5, tokens: int = 1_000) -> Iterator[Options]:
    """Prompts of varying difficulty and length, as the router sees them."""
    rng = random.Random(seed)
    for _ in range(count):
        hardness = rng.betavariate(4 * difficulty + 0.1, 4 * (1 - difficulty) + 0.1)
        length = int(tokens * rng.lognormvariate(0, 0.7)) + 1
        successes = [1 / (1 + math.exp(6 * hardness - ability)) for ability in (2.0, 3.2, 4.5)]
        yield tuple(
            TierOption(model.tier, model, success, NanoUsd(length * price), open=True)
            for model, success, price in zip(MODELS, successes, PRICES, strict=True)
        )


@dataclass
class Run:
    """What a stream cost and was worth."""

    costs: list[int]
    success: float

    def average(self, first: int = 0, last: int | None = None) -> float:
        part = self.costs[first:last]
        return sum(part) / len(part)


def run(prompts: Sequence[Options], target: int, *, surprise: float = 0.0, seed: int = 0) -> Run:
    """Every prompt, decided by one account; real costs scatter around the expected ones by `surprise`."""
    rng, account = random.Random(seed), SpendingAccount()
    costs: list[int] = []
    success = 0.0
    for options in prompts:
        aim = best_for_money(options, account.purse(NanoUsd(target)))
        assert aim is not None
        cost = aim.option.expected_cost
        assert cost is not None
        account.spend(NanoUsd(target), cost, NanoUsd(max(option.expected_cost or 0 for option in options)))
        real = round(cost * rng.lognormvariate(-(surprise**2) / 2, surprise))
        account.correct(NanoUsd(real - cost))
        costs.append(real)
        success += aim.option.success
    return Run(costs, success / len(prompts))


def best_constant(prompts: Sequence[Options], target: int) -> float:
    """The success of the best unchanging worth, chosen in hindsight: what nobody can know beforehand."""
    best = 0.0
    for exponent in range(-40, 160):
        worth = target * 10 ** (exponent / 40)
        taken = [max(each, key=lambda o: o.success - (o.expected_cost or 0) / worth) for each in prompts]
        if sum(option.expected_cost or 0 for option in taken) <= target * len(prompts):
            best = max(best, sum(option.success for option in taken) / len(prompts))
    return best


@pytest.mark.parametrize("target", [200_000, 400_000, 800_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_average_meets_the_target_and_wastes_little_of_it(target: int, seed: int) -> None:
    ended = run(list(stream(3_000, seed)), target, surprise=0.4, seed=seed)
    assert 0.97 * target <= ended.average() <= 1.01 * target


@pytest.mark.parametrize("target", [200_000, 400_000, 800_000])
def test_quality_is_close_to_the_best_that_hindsight_could_buy(target: int) -> None:
    prompts = list(stream(3_000, seed=1))
    assert run(prompts, target).success >= best_constant(prompts, target) - 0.015


def test_it_follows_when_traffic_changes() -> None:
    easy, hard = list(stream(2_000, 1, 0.3)), list(stream(2_000, 2, 0.8))
    long, short = list(stream(2_000, 3, 0.5, 2_000)), list(stream(2_000, 4, 0.5, 400))
    ended = run([*easy, *hard, *long, *short], 400_000, surprise=0.4)
    for first in range(0, 8_000, 2_000):
        assert ended.average(first + 1_000, first + 2_000) <= 1.02 * 400_000
    # Short prompts cannot spend the target even on the large tier: then it takes nearly all of them.
    all_large = sum(options[2].expected_cost or 0 for options in short[1_000:]) / 1_000
    assert ended.average(7_000) >= 0.95 * min(all_large, 400_000)


def test_a_target_below_the_cheapest_tier_gets_the_cheapest_tier() -> None:
    prompts = list(stream(500, seed=5))
    ended = run(prompts, 1_000)
    cheapest = sum(options[0].expected_cost or 0 for options in prompts[20:])
    assert sum(ended.costs[20:]) == cheapest


@settings(max_examples=50, deadline=None)
@given(
    st.integers(50_000, 2_000_000),
    st.lists(st.tuples(st.floats(0.05, 0.95), st.integers(50, 5_000)), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_no_run_of_requests_ever_spends_more_than_the_credit_beyond_its_targets(
    target: int, phases: list[tuple[float, int]], seed: int
) -> None:
    prompts = [options for difficulty, size in phases for options in stream(100, seed, difficulty, size)]
    # The promise holds where the cheapest tier is within the target.
    prompts = [options for options in prompts if (options[0].expected_cost or 0) <= target]
    if not prompts:
        return
    ended = run(prompts, target)
    dearest = max(max(options[2].expected_cost or 0, target) for options in prompts)
    excess = worst = 0
    for cost in ended.costs:
        excess = max(0, excess) + cost - target
        worst = max(worst, excess)
    assert worst <= CREDIT_REQUESTS * dearest


def test_an_account_is_its_organisations_and_its_targets_own() -> None:
    accounts = SpendingAccounts(limit=2)
    first = accounts.of("acme", NanoUsd(5))
    assert accounts.of("acme", NanoUsd(5)) is first
    assert accounts.of("acme", NanoUsd(6)) is not first
    accounts.of("beta", NanoUsd(5))
    assert len(accounts) == 2
    assert accounts.of("acme", NanoUsd(5)) is not first


def test_without_credit_the_cheapest_is_taken_and_with_it_the_best() -> None:
    account = SpendingAccount()
    small, large = MODELS[0], MODELS[2]
    options = (
        TierOption(Tier.SMALL, small, 0.5, NanoUsd(10), open=True),
        TierOption(Tier.LARGE, large, 0.9, NanoUsd(100), open=True),
    )
    account.spend(NanoUsd(20), NanoUsd(100), NanoUsd(100))
    account.correct(NanoUsd(1_000))  # a request cost far more than it was expected to
    aim = best_for_money(options, account.purse(NanoUsd(20)))
    assert aim is not None
    assert aim.option.model is small
    for _ in range(1_000):
        account.spend(NanoUsd(20), NanoUsd(10), NanoUsd(100))
    aim = best_for_money(options, account.purse(NanoUsd(20)))
    assert aim is not None
    assert aim.option.model is large
