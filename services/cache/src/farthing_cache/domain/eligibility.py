"""Whether a prompt may be compared by meaning at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from farthing_cache.domain.profile import Profile, Trait
from farthing_cache.domain.question import Question


class Ineligible(StrEnum):
    """Why only an exact match may serve."""

    LONG = "long"
    TIME = "time"
    PERSONAL = "personal"
    SCRIPT = "script"
    EMPTY = "empty"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy lets through. `personal` is safe where the partition belongs to one user."""

    time_dependent: bool = False
    personal: bool = False


STRICT: Final = Rules()


def ineligible(prompt: Profile, rules: Rules = STRICT) -> Ineligible | None:
    """Why this text takes no part in semantic reuse, neither to be served nor to serve; None if it does."""
    if prompt.traits & Trait.LONG:
        return Ineligible.LONG
    if prompt.traits & Trait.MIXED_SCRIPT:
        return Ineligible.SCRIPT
    if prompt.traits & Trait.TIME and not rules.time_dependent:
        return Ineligible.TIME
    if prompt.traits & Trait.PERSONAL and not rules.personal:
        return Ineligible.PERSONAL
    return None if prompt.words else Ineligible.EMPTY


def stands_alone(prompt: Profile) -> bool:
    """Whether the last message of a conversation means the same without the turns before it."""
    if prompt.question in (Question.NONE, Question.COMMAND) or len(prompt.words) < _FEWEST_WORDS:
        return False
    return not prompt.traits & (Trait.BACKWARD | Trait.ELLIPSIS | Trait.PERSONAL | Trait.DEFINITE | Trait.TIME)


_FEWEST_WORDS: Final = 2
