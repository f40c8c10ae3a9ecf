"""How much an organisation may spend unreserved while accounting is away."""

from __future__ import annotations

from farthing_kit.money import NanoUsd


class Grace:
    """One outage's spending by organisation, at the worst case until the real cost is known.

    An outage is over when accounting has answered for `quiet_s` without a failure: a flapping accounting does not renew
    the grace with every answer. Entries are bounded by the organisations that this gateway serves.
    """

    def __init__(self, *, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._spent: dict[str, int] = {}
        self._healthy_since_s: float | None = None

    def spend(self, org: str, amount: NanoUsd, limit: NanoUsd) -> bool:
        """Count an amount in, if it fits; whether it did."""
        if self._spent.get(org, 0) + amount > limit:
            return False
        self._spent[org] = self._spent.get(org, 0) + amount
        return True

    def give_back(self, org: str, amount: NanoUsd) -> None:
        """What was counted in and not used."""
        left = self._spent.get(org, 0) - amount
        if left > 0:
            self._spent[org] = left
        else:
            self._spent.pop(org, None)

    def spent(self, org: str) -> NanoUsd:
        """How much of its grace an organisation has used in this outage."""
        return NanoUsd(self._spent.get(org, 0))

    def accounting_answered(self, now_s: float) -> None:
        """Accounting is there."""
        if self._healthy_since_s is None:
            self._healthy_since_s = now_s
        if self._spent and now_s - self._healthy_since_s >= self._quiet_s:
            self._spent.clear()

    def accounting_failed(self) -> None:
        """Accounting is not."""
        self._healthy_since_s = None
