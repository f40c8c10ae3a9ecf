"""The words of farthing.type.v1 that decisions are made of, with the same names and numbers."""

from __future__ import annotations

from enum import IntEnum


class Tier(IntEnum):
    """The class of a model, ordered: a greater one is more capable, and dearer."""

    UNSPECIFIED = 0
    SMALL = 1
    MEDIUM = 2
    LARGE = 3


class CacheLevel(IntEnum):
    """Where an answer came from."""

    NONE = 1
    NEAR = 2
    EXACT = 3
    SEMANTIC = 4


class FinishReason(IntEnum):
    """Why an answer ended."""

    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    CANCELLED = 3
    BUDGET = 4


class Role(IntEnum):
    """Who wrote a message."""

    SYSTEM = 1
    USER = 2
    ASSISTANT = 3


class Task(IntEnum):
    """What kind of work a prompt asks for."""

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
