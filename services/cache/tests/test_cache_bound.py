"""The promise of the guard: wrong answers stay within δ of all requests, whatever happens."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_cache.domain.bound import (
    BINS,
    Account,
    Action,
    Guard,
    Promise,
    Reason,
    bin_of,
    never_rising,
    score_of,
)


def play(guard: Guard, chance: random.Random, requests: int, wrong_of) -> tuple[int, int, bool]:  # type: ignore[no-untyped-def]
    """Requests with a candidate in one of three; wrong_of(at, score) says how likely it is wrong. Hits, wrong, kept."""
    hits = wrong = 0
    kept = True
    for at in range(requests):
        guard.observe_request()
        if chance.random() < 1 / 3:
            score = chance.betavariate(4, 1.5)
            bad = chance.random() < wrong_of(at, score)
            decision = guard.decide(score, chance.random())
            if decision.action is Action.SERVE:
                hits, wrong = hits + 1, wrong + bad
            else:
                explored = decision.action is Action.EXPLORE
                guard.label(score, explored=explored, right=not bad, propensity=decision.propensity)
        kept &= wrong <= guard.promise.delta * (at + 1)
    return hits, wrong, kept


def runs(wrong_of, delta: float = 0.02, requests: int = 8_000):  # type: ignore[no-untyped-def]
    return [play(Guard.new(Promise(delta=delta)), random.Random(seed), requests, wrong_of) for seed in range(20)]


def test_the_promise_is_kept_where_the_score_is_calibrated_and_hits_come() -> None:
    found = runs(lambda _, score: 1 - score)
    assert sum(kept for *_, kept in found) >= 19
    assert sum(hits for hits, *_ in found) > 20 * 50


def test_the_promise_is_kept_when_the_topic_shifts() -> None:
    found = runs(lambda at, score: (1 - score) / 3 if at < 4_000 else min(1.0, 2 * (1 - score)))
    assert sum(kept for *_, kept in found) >= 19


def test_the_promise_is_kept_when_the_score_means_nothing() -> None:
    found = runs(lambda _, score: 0.3)
    assert sum(kept for *_, kept in found) >= 19


def test_the_promise_is_kept_when_all_turns_wrong_at_once() -> None:
    found = runs(lambda at, _: 0.01 if at < 5_000 else 0.9)
    assert sum(kept for *_, kept in found) >= 19


def test_nothing_is_served_while_evidence_is_thin() -> None:
    guard = Guard.new(Promise(labels_least=50))
    for _ in range(49):
        guard.observe_request()
        assert guard.decide(0.99, 0.9).reason is Reason.THIN
        guard.label(0.99, explored=False, right=True)


def test_no_candidate_below_the_floor_is_served() -> None:
    guard = ready(Promise(floor=0.8))
    assert guard.decide(0.79, 0.9).action is Action.MISS
    assert guard.decide(0.99, 0.9).action is Action.SERVE


def ready(promise: Promise) -> Guard:
    """A guard with much evidence that all is well."""
    guard = Guard.new(promise)
    for at in range(20_000):
        guard.observe_request()
        score = 0.55 + 0.4499 * ((at * 7919) % 1000) / 1000
        if guard.decide(score, 0.0).action is not Action.SERVE:
            guard.label(score, explored=False, right=True)
    return guard


def test_a_share_of_would_be_hits_is_explored() -> None:
    guard = ready(Promise(explore=0.05))
    decisions = [guard.decide(0.99, at / 1000).action for at in range(1000)]
    assert decisions.count(Action.EXPLORE) == 50


def test_the_threshold_rises_at_once_and_falls_slowly() -> None:
    guard = ready(Promise(refit_every=100, lowered_by=1))
    low = guard.threshold
    for _ in range(3_000):
        guard.label(0.97, explored=False, right=False)
    observe(guard, 100)
    high = guard.threshold
    assert high > low + 1
    for _ in range(200_000):
        guard.label(0.97, explored=False, right=True)
    observe(guard, 100)
    assert guard.threshold >= high - 1


def observe(guard: Guard, requests: int) -> None:
    for _ in range(requests):
        guard.observe_request()


def test_an_explored_hit_without_a_label_counts_as_wrong() -> None:
    lost, right = (Account.open(0.05, 0.05) for _ in range(2))
    for account in (lost, right):
        for _ in range(20):
            account.asked(0.2, 0.05)
    for _ in range(20):
        right.labelled(0.2, 0.05, right=True)
    assert lost.wrong_at_most() > right.wrong_at_most()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("guess", [0.05, 0.4])
def test_the_bound_holds_at_every_moment_whatever_the_guesses(share: float, guess: float) -> None:
    failed = 0
    for seed in range(100):
        chance, account, wrong = random.Random(seed), Account.open(0.05, 0.05), 0
        for at in range(1_500):
            bad = chance.random() < share
            wrong += bad
            if chance.random() < 0.05:
                account.asked(guess, 0.05)
                account.labelled(guess, 0.05, right=not bad)
            else:
                account.served(guess, 0.05)
            if at % 50 == 0 and account.wrong_at_most() < wrong:
                failed += 1
                break
    assert failed <= 0.05 * 100 + 7  # three standard deviations above the promise


def test_a_new_period_spends_no_old_merit() -> None:
    guard = ready(Promise(period=20_000))
    assert guard.in_period == 20_000
    guard.observe_request()
    assert guard.in_period <= 1
    assert guard.bound() == 0.0


def test_a_guard_survives_json() -> None:
    guard = ready(Promise())
    play(guard, random.Random(1), 500, lambda _, score: 1 - score)
    again = Guard.from_state(json.loads(json.dumps(guard.to_state())), guard.promise)
    assert again.standing() == guard.standing()
    assert [again.decide(0.9, 0.5), again.bound()] == [guard.decide(0.9, 0.5), guard.bound()]


def test_the_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        Guard.from_state({"version": 0}, Promise())


def test_another_exploration_opens_a_new_account() -> None:
    guard = ready(Promise())
    again = Guard.from_state(guard.to_state(), Promise(explore=0.1))
    assert again.in_period == 0
    assert again.labels == guard.labels


def test_standing_says_what_is_known() -> None:
    guard = ready(Promise())
    standing = guard.standing()
    assert standing.requests == 20_000
    assert standing.wrong_at_most <= guard.promise.delta
    assert (standing.labels, standing.hits, standing.hit_rate) == (20_000, 0, 0.0)
    assert standing.explored > 0
    assert Guard.new(Promise()).standing().threshold > 1


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"doubt": 1.0}, {"explore": 0.3, "explore_most": 0.2}])
def test_senseless_promises_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="within"):
        Promise(**wrong)  # type: ignore[arg-type]


@given(st.floats(0, 1))
def test_scores_fall_into_their_bin(score: float) -> None:
    at = bin_of(score)
    assert 0 <= at < BINS
    assert at == 0 or score_of(at) <= score + 1e-9


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=BINS, max_size=BINS))
def test_shares_of_wrong_never_rise_with_the_score(counts: list[tuple[int, int]]) -> None:
    shares = never_rising([float(min(one)) for one in counts], [float(max(one)) for one in counts])
    assert len(shares) == BINS
    assert all(one >= two - 1e-12 for one, two in pairwise(shares))


def test_a_label_that_comes_after_its_period_leaves_the_new_account_alone() -> None:
    guard = Guard.new(Promise(delta=0.1, labels_least=1, period=2_000, refit_every=100))
    for _ in range(1_999):
        guard.observe_request()
        if guard.decide(0.99, 0.9).action is Action.MISS:
            guard.label(0.99, explored=False, right=True)
    guard.observe_request()
    decision = guard.decide(0.99, 0.0)
    assert (decision.action, decision.period) == (Action.EXPLORE, 0)
    guard.observe_request()
    opened = guard.account.wrong_at_most()
    guard.label(0.99, explored=True, right=True, propensity=decision.propensity, period=decision.period)
    assert (guard.period, guard.account.wrong_at_most()) == (1, opened)
