"""API keys: their form, and how one is told from a forgery without being kept."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from farthing_accounting.domain.principal import Principal

KeyId = NewType("KeyId", str)
KeyHash = NewType("KeyHash", bytes)

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
MIN_PEPPER_BYTES: Final = 32
_API_KEY: Final = re.compile(r"f(k_[0-9a-f]{16})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A whole key, secret included: `fk_<16 hex>_<64 hex>`. Its id is `k_<16 hex>`."""

    id: KeyId
    secret: str

    @property
    def text(self) -> str:
        """What its owner sends."""
        return f"f{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"ApiKey({self.id}, ***)"

    @classmethod
    def made_of(cls, randomness: bytes) -> ApiKey:
        """A new key of ID_BYTES + SECRET_BYTES random bytes."""
        if len(randomness) != ID_BYTES + SECRET_BYTES:
            raise ValueError(f"a key is made of {ID_BYTES + SECRET_BYTES} bytes")
        return cls(KeyId(f"k_{randomness[:ID_BYTES].hex()}"), randomness[ID_BYTES:].hex())

    @classmethod
    def parse(cls, text: str) -> ApiKey | None:
        """The key that a caller sent; None when it has not the form of one."""
        match = _API_KEY.fullmatch(text)
        return cls(KeyId(match[1]), match[2]) if match else None


class KeyHasher:
    """HMAC-SHA256 under a secret of the mesh (the pepper): who steals the table alone cannot try keys against it."""

    def __init__(self, pepper: bytes) -> None:
        if len(pepper) < MIN_PEPPER_BYTES:
            raise ValueError(f"the key pepper has {len(pepper)} bytes; it needs at least {MIN_PEPPER_BYTES}")
        self._pepper = pepper
        self._nobody = KeyHash(hmac.digest(pepper, b"nobody's key", "sha256"))

    def hash(self, key: ApiKey) -> KeyHash:
        """What is kept of a key."""
        return KeyHash(hmac.digest(self._pepper, key.text.encode(), "sha256"))

    def matches(self, key: ApiKey, kept: KeyHash | None) -> bool:
        """Whether the key is the one that was kept; takes as long when there is none."""
        return hmac.compare_digest(self.hash(key), kept or self._nobody) and kept is not None


class KeyState(Enum):
    """What a key may still do."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key, without its secret."""

    principal: Principal
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """Its state at a moment."""
        if self.revoke_time is not None:
            return KeyState.REVOKED
        if self.expire_time is not None and self.expire_time <= now:
            return KeyState.EXPIRED
        return KeyState.ACTIVE
