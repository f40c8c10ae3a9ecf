"""The names of things in Redis: digests only, which say nothing to a reader without the secret of the mesh."""

from __future__ import annotations

import hmac
from dataclasses import astuple
from functools import lru_cache
from typing import Final

from farthing_cache.domain.answer import CacheKey, Extent, Org

# 128 bits name an organisation, and a request; more would only make every key longer.
_DIGEST_BYTES: Final = 16
# Organisations, and circles within them, whose derived keys are kept at hand.
_KEYS: Final = 4096
_PURPOSE: Final = b"farthing cache partition key v2\0"


class KeyNames:
    """Names for one mesh. Each organisation has a key of its own, derived from the secret, and each team or user that
    shares answers among themselves one derived from that: so equal prompts of two organisations, teams or users have
    nothing in common, and nobody can look a guessed prompt up.

    All names of an organisation share the hash tag `{…}`: they live in one slot of a Redis Cluster.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, _PURPOSE, "sha256")
        self._key = lru_cache(maxsize=_KEYS)(self._derive)
        self._secret_for = lru_cache(maxsize=_KEYS)(self._derive_for)

    def partition(self, org: Org) -> str:
        """What every name of an organisation begins with."""
        return f"fc:{{{self._key(org, '')[:_DIGEST_BYTES].hex()}}}"

    def state(self, org: Org) -> str:
        """Where the epoch of a partition is kept, and what was invalidated within it."""
        return f"{self.partition(org)}:state"

    def compatibility(self, org: Org, key: CacheKey) -> str:
        """The first half of an entry's name after the epoch: `fc:{<org>}:<epoch>:<compat>:<prompt>`."""
        return _keyed(self._key(org, key.sharers), key.compatibility)

    def prompt(self, org: Org, key: CacheKey) -> str:
        """The second half."""
        return _keyed(self._key(org, key.sharers), key.prompt)

    def entry_id(self, org: Org, key: CacheKey) -> bytes:
        """The second half as bytes."""
        return bytes.fromhex(self.prompt(org, key))

    def entry_suffix(self, org: Org, key: CacheKey) -> str:
        """Both halves."""
        return f"{self.compatibility(org, key)}:{self.prompt(org, key)}"

    def vectors_suffix(self, org: Org, key: CacheKey, encoder: bytes) -> str:
        """The end of the name of a partition of vectors; the epoch goes before it."""
        return f"{self.compatibility(org, key)}:v:{_keyed(self._key(org, key.sharers), encoder)}"

    def label(self, org: Org, label: str) -> str:
        """A field of the state: when a model or a tag was last invalidated."""
        return f"x:{_keyed(self._key(org, ''), label.encode())}"

    def extent(self, org: Org, extent: Extent) -> str:
        """What tells one extent from another: all of its fields."""
        return _keyed(self._key(org, ""), repr(astuple(extent)).encode())

    def done(self, org: Org, idempotency_key: str) -> str:
        """Where it is remembered that something was done."""
        return f"{self.partition(org)}:done:{_keyed(self._key(org, ''), idempotency_key.encode())}"

    def void(self, org: Org, token: bytes) -> str:
        """Where it is remembered that a claim was given back, though it may come only then."""
        return f"{self.partition(org)}:void:{token.hex()}"

    def evidence(self, org: Org, category: int) -> str:
        """Where the evidence of one kind of work is kept. It outlives epochs."""
        return f"{self.partition(org)}:evidence:{category}"

    def log(self, org: Org) -> str:
        """Where look-ups are recorded."""
        return f"{self.partition(org)}:log"

    def secret(self, org: Org, sharers: str, purpose: bytes) -> bytes:
        """A key for digests of one purpose, such as profiles: 32 bytes."""
        return self._secret_for(org, sharers, purpose)

    def _derive_for(self, org: Org, sharers: str, purpose: bytes) -> bytes:
        return hmac.digest(self._key(org, sharers), purpose, "sha256")

    def _derive(self, org: Org, sharers: str) -> bytes:
        key = hmac.digest(self._secret, org.encode(), "sha256")
        return hmac.digest(key, sharers.encode(), "sha256") if sharers else key


def _keyed(secret: bytes, value: bytes) -> str:
    return hmac.digest(secret, value, "sha256")[:_DIGEST_BYTES].hex()
