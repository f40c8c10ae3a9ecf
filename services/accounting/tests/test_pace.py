"""How fast budgets go."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from farthing_accounting.domain.pace import LEAST_PASSED, budget_pace
from farthing_accounting.domain.windows import Window
from farthing_kit.money import NanoUsd
from services.accounting.tests.builders import START, budget, limits, org_scope, team_scope

NOON = START + timedelta(hours=12)
DAY = limits(budget(money=NanoUsd(1_000)), now=NOON)


@pytest.mark.parametrize(("left", "pace"), [(1_000, 0.0), (500, 1.0), (0, 2.0), (750, 0.5), (-500, 3.0)])
def test_a_pace_is_the_share_that_is_gone_by_the_share_of_time_that_is(left: int, pace: float) -> None:
    assert budget_pace(DAY, [NanoUsd(left)], NOON) == pytest.approx(pace)


def test_early_in_a_window_a_pace_does_not_explode() -> None:
    at_once = limits(budget(money=NanoUsd(1_000)), now=START)
    assert budget_pace(at_once, [NanoUsd(990)], START) == pytest.approx(0.01 / LEAST_PASSED)


def test_where_the_money_goes_fastest_decides() -> None:
    two = limits(
        budget(org_scope(), Window.MONTH, money=NanoUsd(1_000)),
        budget(team_scope(), Window.DAY, money=NanoUsd(100)),
        now=NOON,
    )
    assert budget_pace(two, [NanoUsd(990), NanoUsd(10)], NOON) == pytest.approx(0.9 / 0.5)


def test_without_a_budget_of_money_there_is_no_pace() -> None:
    assert budget_pace((), (), NOON) == 0.0
    assert budget_pace(limits(budget(tokens=5), now=NOON), [None], NOON) == 0.0
    assert budget_pace(limits(budget(money=NanoUsd(0)), now=NOON), [NanoUsd(0)], NOON) == 0.0


@given(st.integers(0, 86_399), st.integers(0, 1_000), st.integers(0, 1_000))
def test_spending_more_is_never_slower_and_waiting_never_faster(second: int, one: int, other: int) -> None:
    now = START + timedelta(seconds=second)
    less, more = sorted((one, other))
    assert budget_pace(DAY, [NanoUsd(1_000 - less)], now) <= budget_pace(DAY, [NanoUsd(1_000 - more)], now)
    later = min(now + timedelta(hours=1), START + timedelta(days=1))
    assert budget_pace(DAY, [NanoUsd(1_000 - more)], later) <= budget_pace(DAY, [NanoUsd(1_000 - more)], now)
