"""The names of things in Redis: digests only, which say nothing to a reader without the secret of the mesh."""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final

from farthing_cache.domain.answer import CacheKey, Org

# 128 bits name an organisation; more would only make every key longer.
_ORG_BYTES: Final = 16
# Organisations whose derived keys are kept at hand.
_ORGS: Final = 4096
_PURPOSE: Final = b"farthing cache partition key v1\0"


class KeyNames:
    """Names for one mesh. Each organisation has a key of its own, derived from the secret, so that equal prompts of two
    organisations have nothing in common, and nobody can look a guessed prompt up.

    All names of an organisation share the hash tag `{…}`: they live in one slot of a Redis Cluster.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, _PURPOSE, "sha256")
        self._org_key = lru_cache(maxsize=_ORGS)(self._derive)

    def partition(self, org: Org) -> str:
        """What every name of an organisation begins with."""
        return f"fc:{{{self._org_key(org)[:_ORG_BYTES].hex()}}}"

    def epoch(self, org: Org) -> str:
        """Where the epoch of a partition is kept."""
        return f"{self.partition(org)}:epoch"

    def entry_suffix(self, org: Org, key: CacheKey) -> str:
        """The end of an entry's name; the epoch goes before it: `fc:{<org>}:<epoch>:<compat>:<prompt>`."""
        org_key = self._org_key(org)
        return f"{_keyed(org_key, key.compatibility)}:{_keyed(org_key, key.prompt)}"

    def invalidation(self, org: Org, idempotency_key: str) -> str:
        """Where it is remembered that an invalidation was done."""
        return f"{self.partition(org)}:done:{_keyed(self._org_key(org), idempotency_key.encode())}"

    def _derive(self, org: Org) -> bytes:
        return hmac.digest(self._secret, org.encode(), "sha256")


def _keyed(secret: bytes, value: bytes) -> str:
    return hmac.digest(secret, value, "sha256").hex()
