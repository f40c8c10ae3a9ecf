"""What is remembered of API keys: whom they belong to, and under which policy they are served."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NewType, TypeVar

from farthing_gateway.domain.policy import Policy
from farthing_kit.context import Principal
from farthing_kit.errors import FarthingError

Fingerprint = NewType("Fingerprint", bytes)
V = TypeVar("V")


def fingerprint(api_key: str, salt: bytes) -> Fingerprint:
    """What stands for a key in memory: a keyed hash under a salt of this process. The key itself is not kept."""
    return Fingerprint(hmac.digest(salt, api_key.encode(), "sha256"))


@dataclass(frozen=True, slots=True)
class Grant:
    """Accounting's answer about a key."""

    principal: Principal
    policy: Policy
    time_to_live_s: float


# Where a word about a key may have been missed, its grant is good for so long after accounting was asked. Accounting
# waits as long (hearing.LEASE_S) after it has ended a key, before it says so.
UNHEARD_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The moment of asking accounting. `era`: what was forgotten until then. `unbroken`: the line on which words about
    keys were heard then; None if they may have been missed."""

    at_s: float
    era: int
    unbroken: int | None


@dataclass(frozen=True, slots=True)
class _Granted:
    grant: Grant
    asked: Asked
    fresh_until_s: float


@dataclass(frozen=True, slots=True)
class _Refused:
    error: FarthingError
    fresh_until_s: float


class Grants:
    """Grants and refusals by fingerprint, each bounded, so that a flood of bad keys cannot drive out the good ones.

    A grant is fresh for as long as accounting said, if every word about keys was heard since it was asked; otherwise
    for UNHEARD_S. After that it serves only while accounting cannot be asked, and at most `stale_s` longer.
    Invalidation removes it altogether, and whatever was under way at that moment is not kept.
    """

    def __init__(self, *, limit: int, stale_s: float, refusal_s: float) -> None:
        self._limit = limit
        self._stale_s = stale_s
        self._refusal_s = refusal_s
        self._grants: OrderedDict[Fingerprint, _Granted] = OrderedDict()
        self._refusals: OrderedDict[Fingerprint, _Refused] = OrderedDict()
        self._era = 0

    def __len__(self) -> int:
        return len(self._grants)

    def asking(self, now_s: float, unbroken: int | None) -> Asked:
        """Take it before asking accounting, and give it back with the answer."""
        return Asked(now_s, self._era, unbroken)

    def fresh(self, key: Fingerprint, now_s: float, unbroken: int | None) -> Grant | None:
        """The grant while it is fresh; raises the refusal while that is."""
        found = self._grants.get(key)
        if found is not None and now_s < found.fresh_until_s:
            asked = found.asked
            if now_s < asked.at_s + UNHEARD_S or (unbroken is not None and unbroken == asked.unbroken):
                return found.grant
        refused = self._refusals.get(key)
        if refused is not None and now_s < refused.fresh_until_s:
            raise refused.error.with_traceback(None)
        return None

    def stale(self, key: Fingerprint, now_s: float) -> Grant | None:
        """The grant that may serve while accounting cannot be asked."""
        found = self._grants.get(key)
        return found.grant if found is not None and now_s < found.fresh_until_s + self._stale_s else None

    def remember(self, key: Fingerprint, grant: Grant, asked: Asked, now_s: float) -> None:
        """Accounting knows the key."""
        self._refusals.pop(key, None)
        if asked.era == self._era:
            _put(self._grants, key, _Granted(grant, asked, now_s + grant.time_to_live_s), self._limit)

    def refuse(self, key: Fingerprint, error: FarthingError, now_s: float) -> None:
        """Accounting does not know the key, or has revoked it."""
        self._grants.pop(key, None)
        _put(self._refusals, key, _Refused(error, now_s + self._refusal_s), self._limit)

    def forget_key(self, key_id: str) -> None:
        """Drop what is remembered of one key."""
        self._forget({f for f, found in self._grants.items() if found.grant.principal.key_id == key_id})

    def forget_org(self, org: str) -> None:
        """Drop what is remembered of every key of an organisation."""
        self._forget({f for f, found in self._grants.items() if found.grant.principal.org == org})

    def _forget(self, keys: set[Fingerprint]) -> None:
        self._era += 1
        for key in keys:
            del self._grants[key]


def _put(where: OrderedDict[Fingerprint, V], key: Fingerprint, value: V, limit: int) -> None:
    where[key] = value
    where.move_to_end(key)
    while len(where) > limit:
        where.popitem(last=False)
