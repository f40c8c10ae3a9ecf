"""The promise that at most a share δ of all requests is answered wrongly by a semantic hit, whatever else moves.

Two parts. The *account* is what the promise rests on: some would-be hits are not served but asked anew (explored,
with a known probability), and from those found wrong a betting martingale bounds the number of wrong answers served,
at every moment at once, whatever the questions, the topics and the size of the cache do. A hit is served only while
that bound, and this hit on top of it, is within δ of the requests so far. The *threshold* only decides which hits to
spend the account on: the lowest score at which the recent labels predict an error within δ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

BINS: Final = 64
_LOGIT_LOW: Final = -3.0
_LOGIT_HIGH: Final = 5.0
_LOGIT_STEP: Final = (_LOGIT_HIGH - _LOGIT_LOW) / BINS
_VERSION: Final = 2


class Action(StrEnum):
    """What to do with the best candidate."""

    SERVE = "serve"
    EXPLORE = "explore"  # ask the model, and compare: label(…, explored=True)
    MISS = "miss"


class Reason(StrEnum):
    """Why a candidate is served or not."""

    ALLOWED = "allowed"
    EXPLORED = "explored"
    THIN = "thin"  # too few labels yet: exact answers only
    SCORE = "score"  # below the threshold of the category
    BOUND = "bound"  # serving it could break the promise


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, with the probability that a would-be hit had of being explored (1 where nothing was at stake), and
    the period of the account that it is entered in."""

    action: Action
    reason: Reason
    propensity: float = 1.0
    period: int = 0


@dataclass(frozen=True, slots=True)
class Promise:
    """δ and how it is kept. Every limit of the guard."""

    delta: float = 0.01
    doubt: float = 0.05  # probability that the promise fails in one period
    explore: float = 0.08  # share of would-be hits that is explored where the score is high
    explore_most: float = 0.2  # … and where it is low
    floor: float = 0.5  # no candidate below this score is ever served
    labels_least: int = 200
    period: int = 100_000  # requests after which the account starts anew, so that old merit cannot be spent
    memory: int = 8_000  # requests that the threshold remembers
    refit_every: int = 1_000
    lowered_by: int = 4  # bins at most, at each refit; raised without limit
    pace: int = 8_000  # requests over which what is left of the account is spent

    def __post_init__(self) -> None:
        if not (0 < self.delta < 1 and 0 < self.doubt < 1 and 0 < self.explore <= self.explore_most <= 1):
            raise ValueError("delta, doubt and the shares that are explored are within 0 and 1")


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known, for whoever watches."""

    requests: int
    hits: int
    explored: int
    labels: int
    wrong_at_most: float  # share of the period's requests answered wrongly by a hit, at the stated confidence
    wrong_estimate: float  # the same, unbiased
    threshold: float  # lowest score that is served now; above 1 while nothing is
    hit_rate: float


@dataclass(slots=True)
class Account:
    """An upper bound on wrong answers among would-be hits, valid at every moment at once with probability 1 - doubt.

    A wager on each item. With stake c, a guess p of its being wrong, and the probability ε that it is explored, the
    wealth is multiplied by exp(c) if the item is wrong, known or not, times u = 1 - p(1 - exp(-c)) when it is not
    explored, (1 - (1-ε)u) / ε when it is explored and right, (exp(-c) - (1-ε)u) / ε when it is explored and wrong.
    For right and for wrong items alike the mean is 1, so that the wealth of a mixture of stakes ever exceeds
    1/doubt with probability doubt at most (Ville). That is solved for the number of wrong items. Nothing is assumed
    of which items are wrong; good guesses make the bound tighter, bad ones looser, never wrong.
    """

    doubt: float
    stakes: tuple[float, ...]
    paid: list[float]  # minus the logarithm of what is known of each stake's wealth
    seen_wrong: int = 0
    estimate: float = 0.0
    _bound: float = -1.0

    @classmethod
    def open(cls, doubt: float, explore: float) -> Account:
        """An empty account; `explore` is the smallest probability of being explored that will occur."""
        most = -math.log1p(-explore)  # beyond it a wrong item that is explored could cost everything
        stakes = tuple(most * share for share in _STAKES)
        return cls(doubt, stakes, [0.0] * len(stakes))

    def served(self, guess: float, propensity: float) -> None:
        """An item was not explored: whether it is wrong stays unknown."""
        self._pay(guess, propensity, _unexplored, 1.0)

    def asked(self, guess: float, propensity: float) -> None:
        """An item is explored: until its label comes it counts as wrong."""
        self._pay(guess, propensity, _found_wrong, 1.0)

    def labelled(self, guess: float, propensity: float, *, right: bool) -> None:
        """The label of an explored item."""
        if right:
            self._pay(guess, propensity, _found_wrong, -1.0)
            self._pay(guess, propensity, _found_right, 1.0)
        else:
            self.seen_wrong += 1
            self.estimate += 1 / propensity

    def _pay(
        self, guess: float, propensity: float, factor: Callable[[float, float, float], float], sign: float
    ) -> None:
        for at, stake in enumerate(self.stakes):
            self.paid[at] -= sign * math.log(factor(stake, guess, propensity))
        self._bound = -1.0

    def wrong_at_most(self) -> float:
        """The bound on wrong items, those seen included."""
        if self._bound < 0:
            self._bound = self._solved()
        return self._bound

    def _solved(self) -> float:
        limit = -math.log(self.doubt)
        ends = [
            (limit - math.log(share) + paid) / stake
            for stake, share, paid in zip(self.stakes, _SHARES, self.paid, strict=True)
        ]
        low, high = min(0.0, min(ends)), min(ends)
        for _ in range(24):
            middle = (low + high) / 2
            if self._log_wealth(middle) < limit:
                low = middle
            else:
                high = middle
        return max(high, float(self.seen_wrong))

    def _log_wealth(self, wrong: float) -> float:
        logs = [
            math.log(share) + stake * wrong - paid
            for stake, share, paid in zip(self.stakes, _SHARES, self.paid, strict=True)
        ]
        most = max(logs)
        return most + math.log(sum(math.exp(one - most) for one in logs))


_STAKES: Final = (0.3, 0.6, 0.95)
_SHARES: Final = (0.25, 0.5, 0.25)


def _unexplored(stake: float, guess: float, propensity: float) -> float:
    return 1 - guess * -math.expm1(-stake)


def _found_right(stake: float, guess: float, propensity: float) -> float:
    return (1 - (1 - propensity) * _unexplored(stake, guess, propensity)) / propensity


def _found_wrong(stake: float, guess: float, propensity: float) -> float:
    return (math.exp(-stake) - (1 - propensity) * _unexplored(stake, guess, propensity)) / propensity


@dataclass(slots=True)
class Guard:
    """Decides for one tenant and category. Deterministic: randomness comes in as `random_u`."""

    promise: Promise
    requests: int = 0
    period: int = 0
    in_period: int = 0
    served: int = 0  # in this period
    hits: int = 0
    explored: int = 0
    labels: int = 0
    threshold: int = BINS
    account: Account = field(default_factory=lambda: Account(0.05, (), []))
    candidates: list[float] = field(default_factory=lambda: [0.0] * BINS)
    labelled: list[float] = field(default_factory=lambda: [0.0] * BINS)
    wrong: list[float] = field(default_factory=lambda: [0.0] * BINS)
    weight: float = 0.0  # requests remembered, the older the lighter

    @classmethod
    def new(cls, promise: Promise) -> Guard:
        """A guard that has seen nothing: exact answers only, until labels come."""
        return cls(promise, account=Account.open(promise.doubt, promise.explore))

    def observe_request(self) -> None:
        """Any request of this category, before its decision: hits of any level and misses alike."""
        self.requests += 1
        self.in_period += 1
        self.weight += 1
        if self.in_period > self.promise.period:
            self._begin_period()
        if self.requests % self.promise.refit_every == 0:
            self._refit()
            self._forget()

    def decide(self, score: float, random_u: float) -> Decision:
        """What to do with the best candidate of a request; `random_u` is uniform in [0, 1)."""
        at = bin_of(score)
        self.candidates[at] += 1
        if self.labels < self.promise.labels_least:
            return Decision(Action.MISS, Reason.THIN)
        if at < self.threshold or score < self.promise.floor:
            return Decision(Action.MISS, Reason.SCORE)
        if self.bound() + 1 > self.promise.delta * self.in_period:
            return Decision(Action.MISS, Reason.BOUND)
        propensity = self._propensity(at)
        if random_u < propensity:
            self.explored += 1
            self.account.asked(_guess(score), propensity)
            return Decision(Action.EXPLORE, Reason.EXPLORED, propensity, self.period)
        self.hits += 1
        self.served += 1
        self.account.served(_guess(score), propensity)
        return Decision(Action.SERVE, Reason.ALLOWED, propensity, self.period)

    def label(
        self, score: float, *, explored: bool, right: bool, propensity: float = 1.0, period: int | None = None
    ) -> None:
        """Whether a candidate's answer would have been right: of an explored one, or of a miss that was compared.

        `propensity` and `period` are those of the decision. An explored one without a label stays counted as wrong; a
        label that comes after the end of its period still teaches the threshold, and leaves the new account alone.
        """
        at = bin_of(score)
        self.labels += 1
        self.labelled[at] += 1
        self.wrong[at] += not right
        if explored and period in (None, self.period):
            self.account.labelled(_guess(score), propensity, right=right)

    def bound(self) -> float:
        """Wrong answers served in this period, at most."""
        return min(float(self.served), self.account.wrong_at_most() - self.account.seen_wrong)

    def standing(self) -> Standing:
        """What is known, for whoever watches."""
        period = max(1, self.in_period)
        return Standing(
            requests=self.requests,
            hits=self.hits,
            explored=self.explored,
            labels=self.labels,
            wrong_at_most=self.bound() / period,
            wrong_estimate=max(0.0, self.account.estimate - self.account.seen_wrong) / period,
            threshold=max(self.promise.floor, score_of(self.threshold)) if self.threshold < BINS else 1.01,
            hit_rate=self.hits / max(1, self.requests),
        )

    def to_state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        state = asdict(self)
        del state["promise"], state["account"]["_bound"]
        return {"version": _VERSION, **state}

    @classmethod
    def from_state(cls, state: dict[str, Any], promise: Promise) -> Guard:
        """A guard as it was. Another δ keeps what is known; another exploration starts a new account."""
        if state.get("version") != _VERSION or set(state) != {one.name for one in fields(cls)} - {"promise"} | {
            "version"
        }:
            raise ValueError("not the state of a guard of this version")
        kept = dict(state)
        del kept["version"]
        account = dict(kept.pop("account"))
        guard = cls(promise, account=Account(account.pop("doubt"), tuple(account.pop("stakes")), **account), **kept)
        if (
            guard.account.doubt != promise.doubt
            or guard.account.stakes != Account.open(promise.doubt, promise.explore).stakes
        ):
            guard._begin_period()
        return guard

    def _begin_period(self) -> None:
        self.account = Account.open(self.promise.doubt, self.promise.explore)
        self.period += 1
        self.in_period = self.served = 0

    def _propensity(self, at: int) -> float:
        """More where an error is likelier: there each exploration says more."""
        doubtful = 1 - score_of(at)
        wanted = self.promise.explore * math.sqrt(max(1.0, doubtful / 0.05))
        return min(self.promise.explore_most, wanted)

    def _refit(self) -> None:
        wanted = self._lowest_safe()
        self.threshold = wanted if wanted >= self.threshold else max(wanted, self.threshold - self.promise.lowered_by)

    def _lowest_safe(self) -> int:
        left = self.promise.delta * (self.in_period + self.promise.pace) - self.bound()
        allowed = min(self.promise.delta, left / (self.promise.pace * self._overhead())) * self.weight
        shares = never_rising(self.wrong, self.labelled)
        lowest, errors = BINS, 0.0
        for at in range(BINS - 1, -1, -1):
            errors += self.candidates[at] * shares[at] * (1 - self._propensity(at))
            if errors > allowed or score_of(at) < self.promise.floor:
                break
            lowest = at
        return lowest

    def _overhead(self) -> float:
        """How much faster the bound has grown than the errors that it bounds: what is left of the account is spent at
        the pace of the bound."""
        errors = max(0.0, self.account.estimate - self.account.seen_wrong) + _EARLY_ERRORS
        return max(1.0, (self.bound() + _EARLY_OVERHEAD * _EARLY_ERRORS) / errors)

    def _forget(self) -> None:
        kept = math.exp(-self.promise.refit_every / self.promise.memory)
        self.weight *= kept
        for counts in (self.candidates, self.labelled, self.wrong):
            counts[:] = [kept * count for count in counts]


# What the overhead is taken to be before any error is known, and how many errors outweigh that.
_EARLY_OVERHEAD: Final = 1.5
_EARLY_ERRORS: Final = 20.0


def _guess(score: float) -> float:
    """How likely a candidate is wrong, by its score alone: it must be the same when the label comes."""
    return min(0.8, max(0.02, 1 - score))


def bin_of(score: float) -> int:
    """The bin of a score: equal steps of log-odds."""
    safe = min(max(score, 1e-9), 1 - 1e-9)
    return min(BINS - 1, max(0, int((math.log(safe / (1 - safe)) - _LOGIT_LOW) / _LOGIT_STEP)))


def score_of(at: int) -> float:
    """The lowest score of a bin."""
    return 1 / (1 + math.exp(-(_LOGIT_LOW + at * _LOGIT_STEP)))


def never_rising(wrong: Sequence[float], labelled: Sequence[float]) -> list[float]:
    """The share of wrong labels in each bin, made to never rise with the score (pool adjacent violators)."""
    pools: list[list[float]] = []  # wrong, labelled, bins
    for at in range(len(wrong)):
        pools.append([wrong[at] + _PRIOR * (1 - score_of(at)), labelled[at] + _PRIOR, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] <= pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [one + other for one, other in zip(pools[-1], last, strict=True)]
    return [pool[0] / pool[1] for pool in pools for _ in range(int(pool[2]))]


_PRIOR: Final = 0.5  # labels that the verifier's own calibration is worth in each bin
