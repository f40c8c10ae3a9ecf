"""Spending targets: what an acceptable answer may cost, so that the average request costs what the tenant wants.

A tier is taken when `success - cost / worth` is greatest: `worth` is the price of an acceptable answer. Which worth
makes the average cost meet the target depends on traffic that nobody knows beforehand, so it is found on the way.
Each request adds the target to a credit and takes its cost from it. The credit steers: while more than half of it is
there, an answer is worth more than usual, while less, it is worth less; and what is usual follows, slowly. The credit
also binds: only what it covers may be taken. It is never more than CREDIT_REQUESTS requests of the dearest tier, so
over any run of n

    sum of costs <= n * target + CREDIT_REQUESTS dear requests + what requests cost beyond their expectation

as long as the cheapest tier costs no more than the target; where it costs more, it is taken all the same. From the
start the excess is at most half of that: the credit begins in the middle.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from farthing_kit.money import NanoUsd

# Before anything is known: an acceptable answer is worth ten times what may be spent on a request.
PRIOR_WORTH: Final = 10.0
# How far the usual worth may go from the target, so that it finds its way back when traffic changes.
LEAST_WORTH: Final = 0.1
MOST_WORTH: Final = 1000.0
# How much the logarithm of the worth is above the usual when all the credit is there, and below when none is.
STEERING: Final = 1.0
# How much of that the usual worth takes over with each request.
FOLLOWING: Final = 0.02
# How quickly the cost of the dearest tier is followed: about the last fifty requests count.
MEMORY: Final = 0.02
# The most credit, in requests of the dearest tier.
CREDIT_REQUESTS: Final = 10.0
MAX_ACCOUNTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Purse:
    """What may be spent on one request: at most `credit`, and `worth` for the certainty of an acceptable answer."""

    target: NanoUsd
    worth: float
    credit: float


class SpendingAccount:
    """One tenant's way to its target, on one gateway. Each replica finds its own: where every replica meets the target,
    all of them together do."""

    def __init__(self) -> None:
        self._usual = math.log(PRIOR_WORTH)  # in targets, as a logarithm
        self._dearest = 0.0
        self._credit = 0.0

    def purse(self, target: NanoUsd) -> Purse:
        """For the next request. The first one finds an open purse: what requests cost is not known yet."""
        credit = self._credit + target if self._dearest else math.inf
        return Purse(target, math.exp(self._usual + STEERING * self._fullness()) * target, credit)

    def spend(self, target: NanoUsd, amount: NanoUsd, dearest: NanoUsd) -> None:
        """A request was decided: what it will probably cost, and what it would have cost on the dearest tier that it
        could have had (0: not known)."""
        self._follow(float(max(dearest, target, 1)))
        self._move(target - amount)

    def correct(self, excess: NanoUsd) -> None:
        """A request cost this much more than was expected of it; less, if negative."""
        if self._dearest:
            self._move(-excess)

    def _fullness(self) -> float:
        """1 when all the credit is there, 0 in the middle, -1 when none is."""
        if not self._dearest:
            return 0.0
        middle = CREDIT_REQUESTS * self._dearest / 2
        return min(max((self._credit - middle) / middle, -1.0), 1.0)

    def _follow(self, dearest: float) -> None:
        if not self._dearest:
            self._dearest, self._credit = dearest, CREDIT_REQUESTS * dearest / 2
        self._dearest += MEMORY * (dearest - self._dearest)
        usual = self._usual + FOLLOWING * self._fullness()
        self._usual = min(max(usual, math.log(LEAST_WORTH)), math.log(MOST_WORTH))

    def _move(self, difference: int) -> None:
        self._credit = min(self._credit + difference, CREDIT_REQUESTS * self._dearest)


class SpendingAccounts:
    """The accounts of a gateway, by organisation and target: a new target begins anew. The one not used for longest is
    forgotten first."""

    def __init__(self, *, limit: int = MAX_ACCOUNTS) -> None:
        self._limit = limit
        self._accounts: OrderedDict[tuple[str, int], SpendingAccount] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, org: str, target: NanoUsd) -> SpendingAccount:
        """The account; a new one at its first use."""
        account = self._accounts.get((org, target))
        if account is None:
            account = self._accounts[org, target] = SpendingAccount()
        self._accounts.move_to_end((org, target))
        if len(self._accounts) > self._limit:
            self._accounts.popitem(last=False)
        return account
