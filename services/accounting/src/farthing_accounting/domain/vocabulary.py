"""The words of the contracts as enums of the domain: same names, same numbers (a test holds them equal)."""

from __future__ import annotations

from enum import IntEnum


class Tier(IntEnum):
    """The class of a model."""

    UNSPECIFIED = 0
    SMALL = 1
    MEDIUM = 2
    LARGE = 3


class CacheLevel(IntEnum):
    """Where an answer came from."""

    UNSPECIFIED = 0
    NONE = 1
    NEAR = 2
    EXACT = 3
    SEMANTIC = 4

    @property
    def is_hit(self) -> bool:
        """Whether a cache answered."""
        return self in (CacheLevel.NEAR, CacheLevel.EXACT, CacheLevel.SEMANTIC)


class Task(IntEnum):
    """The kind of work of a prompt."""

    UNSPECIFIED = 0
    CHAT = 1
    QUESTION_ANSWERING = 2
    MATHS = 3
    CODE = 4
    EXTRACTION = 5
    SUMMARY = 6
    TRANSLATION = 7
    CLASSIFICATION = 8
    CREATIVE = 9
    REASONING = 10


class FinishReason(IntEnum):
    """Why an answer ended."""

    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    CANCELLED = 3
    BUDGET = 4


class CacheScope(IntEnum):
    """Who shares cached answers within an organisation."""

    UNSPECIFIED = 0
    ORG = 1
    TEAM = 2
    USER = 3


class OutageMode(IntEnum):
    """What a gateway does while accounting cannot be reached."""

    UNSPECIFIED = 0
    DENY = 1
    GRACE = 2
    ALLOW = 3
