"""A stream of questions through veto, verifier and guard, with the truth at hand."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from farthing_cache.app.semantic import Limits
from farthing_cache.domain.bound import Action, Decision, Guard, Promise, Reason

CANDIDATES = 5
CHECK_EVERY = 500
NOTHING_NEAR = Decision(Action.MISS, Reason.SCORE)
COMPARE_SHARE = Limits().compare_share  # of the misses that are not explored
LABEL_DELAY = 32  # requests until a comparison is done, off the critical path


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question near another one: what the verifier says, whether a rule forbids it, whether it truly is the same."""

    other: int
    cosine: float
    score: float
    allowed: bool
    same: bool


@dataclass(slots=True)
class Outcome:
    """What became of a stream."""

    requests: int = 0
    hits: int = 0
    wrong: int = 0
    explored: int = 0
    worst: float = 0.0  # largest share of wrong answers at any checkpoint
    bound: float = 0.0
    curve: list[tuple[int, int, int]] = field(default_factory=list)

    def check(self) -> None:
        """Note a checkpoint."""
        self.curve.append((self.requests, self.hits, self.wrong))
        self.worst = max(self.worst, self.wrong / self.requests)


def run(order: Sequence[int], near: Sequence[Sequence[Neighbour]], promise: Promise, seed: int) -> Outcome:
    """Asks in this order. What is served is not kept again; what is not served is, and may serve later."""
    chance = random.Random(seed)
    guard, outcome = Guard.new(promise), Outcome()
    kept: set[int] = set()
    waiting: deque[tuple[int, float, bool, bool, float]] = deque()
    for at, question in enumerate(order):
        while waiting and waiting[0][0] <= at:
            _, score, explored, right, propensity = waiting.popleft()
            guard.label(score, explored=explored, right=right, propensity=propensity)
        guard.observe_request()
        outcome.requests += 1
        best = best_of(near[question], kept)
        decision = guard.decide(best.score, chance.random()) if best is not None else NOTHING_NEAR
        if best is not None and decision.action is Action.SERVE:
            outcome.hits += 1
            outcome.wrong += not best.same
        else:
            kept.add(question)
        if best is not None and decision.action is not Action.SERVE:
            explored = decision.action is Action.EXPLORE
            outcome.explored += explored
            if explored or decision.reason is Reason.THIN or chance.random() < COMPARE_SHARE:
                waiting.append((at + LABEL_DELAY, best.score, explored, best.same, decision.propensity))
        if outcome.requests % CHECK_EVERY == 0:
            outcome.check()
    outcome.bound = guard.standing().wrong_at_most
    return outcome


def best_of(near: Sequence[Neighbour], kept: set[int]) -> Neighbour | None:
    """The best allowed one among the nearest that are kept; `near` is ordered by cosine."""
    found = 0
    best = None
    for one in near:
        if one.other in kept:
            found += 1
            if one.allowed and (best is None or one.score > best.score):
                best = one
            if found == CANDIDATES:
                break
    return best
