"""The scopes that budgets are set on: an organisation, a team, a user, a key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from farthing_accounting.domain.principal import Principal

_USER_DIGEST_CHARS: Final = 16


class ScopeKind(IntEnum):
    """From the widest to the narrowest; numbers as in the contract."""

    ORG = 1
    TEAM = 2
    USER = 3
    KEY = 4


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """One level of who pays. `id` is the team, user or key id; empty for an organisation."""

    org: str
    kind: ScopeKind
    id: str = ""

    @property
    def label(self) -> str:
        """How it is named in errors and stores: "org:acme", "team:acme/search", "key:k_7f". A user is a person perhaps,
        so that their name never leaves the database: a digest stands for it."""
        match self.kind:
            case ScopeKind.ORG:
                return f"org:{self.org}"
            case ScopeKind.TEAM:
                return f"team:{self.org}/{self.id}"
            case ScopeKind.USER:
                return f"user:{self.org}/{_digest(self.id)}"
            case ScopeKind.KEY:
                return f"key:{self.id}"


@lru_cache(maxsize=4_096)
def _digest(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()[:_USER_DIGEST_CHARS]


def scopes_of(principal: Principal) -> tuple[Scope, ...]:
    """Every scope that a request of the principal counts against, widest first."""
    org = principal.org
    levels = (
        (ScopeKind.TEAM, principal.team),
        (ScopeKind.USER, principal.user),
        (ScopeKind.KEY, principal.key_id),
    )
    return (Scope(org, ScopeKind.ORG), *(Scope(org, kind, name) for kind, name in levels if name))
