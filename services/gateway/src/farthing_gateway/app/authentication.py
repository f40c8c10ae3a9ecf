"""Step 1: an API key becomes a principal with a policy."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from farthing_gateway.app.outage import is_away
from farthing_gateway.domain.errors import accounting_unavailable, is_outage, key_invalid
from farthing_gateway.domain.grants import Fingerprint, Grant, Grants, fingerprint
from farthing_gateway.ports import InvalidationLine, KeyAuthority
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError

KEY_PREFIX: Final = "fk_"
MAX_KEY_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `from_memory`: accounting could not be asked, what it said earlier counts."""

    grant: Grant
    from_memory: bool = False


# The key of the call at hand, about which accounting could not be asked when the call came.
_not_asked: ContextVar[str | None] = ContextVar("farthing_key_not_asked", default=None)


@dataclass(frozen=True)
class Authentication:
    """Asks accounting once per key and time to live; the answers stay in memory under a hash of the key.

    While it may be that a key was revoked and this gateway not told, accounting is asked again every second.
    """

    authority: KeyAuthority
    grants: Grants
    line: InvalidationLine
    clock: Clock
    salt: bytes

    async def admit(self, api_key: str | None) -> None:
        """Refuse a call whose key is not known, as `caller` does, before its message is read. The way of the request
        asks again, since the key may have been revoked while the message came; it does not wait again for accounting
        that is away."""
        if (await self.caller(api_key)).from_memory:
            _not_asked.set(api_key)

    async def caller(self, api_key: str | None) -> Caller:
        """The caller behind a key. Unauthenticated, or AccountingUnavailable when nobody can say."""
        if api_key is None or not _plausible(api_key):
            raise key_invalid()
        key = fingerprint(api_key, self.salt)
        grant = self.grants.fresh(key, self.clock.monotonic(), self.line.unbroken())
        if grant is not None:
            return Caller(grant)
        return self._from_memory(key) if _not_asked.get() == api_key else await self._ask(api_key, key)

    async def _ask(self, api_key: str, key: Fingerprint) -> Caller:
        asked = self.grants.asking(self.clock.monotonic(), self.line.unbroken())
        try:
            grant = await self.authority.authorize(api_key)
        except FarthingError as error:
            if is_away(error):
                return self._from_memory(key)
            if not is_outage(error):
                self.grants.refuse(key, error, self.clock.monotonic())
            raise
        self.grants.remember(key, grant, asked, self.clock.monotonic())
        return Caller(grant)

    def _from_memory(self, key: Fingerprint) -> Caller:
        grant = self.grants.stale(key, self.clock.monotonic())
        if grant is None:
            raise accounting_unavailable("key_unknown")
        return Caller(grant, from_memory=True)


def _plausible(api_key: str) -> bool:
    return api_key.startswith(KEY_PREFIX) and len(api_key) <= MAX_KEY_CHARS and api_key.isascii()
