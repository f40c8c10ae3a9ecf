"""Which complete answers are worth keeping: not empty ones, and none that declines to answer."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

# A refusal is said at the beginning, in the first person. What is quoted or discussed further down is none.
HEAD_CHARS: Final = 240

_REFUSAL: Final = re.compile(
    r"""
    \A[\s"'*_>#-]*
    (?:(?:oh|hi|hello|hey|well|unfortunately|regrettably)\b[\s,.!]*)*
    (?:
      (?:i\s*+(?:['’]\s*+)?+a?m\s+(?:really\s+|so\s+|very\s+)?(?:sorry|afraid)|(?:my\s+)?apolog(?:y|ies)|i\s+apologi[sz]e|sorry)
        \b[^.!?\n]{0,60}?\b(?:can\s?no?t|can(?:'|’)t|unable|not\s+able|won(?:'|’)t|do\s+not|don(?:'|’)t|could\s+not|couldn(?:'|’)t)\b
      |(?:as|being)\s+an?\s+(?:ai|artificial|(?:large\s+)?language)\b[^.!?\n]{0,80}?\b(?:can\s?not|can(?:'|’)t|unable|not\s+able|do\s+not|don(?:'|’)t)\b
      |i\s+(?:can\s?not|can(?:'|’)t|will\s+not|won(?:'|’)t|am\s+(?:unable|not\s+able)\s+to|(?:must|have\s+to)\s+(?:decline|refuse))
        \s*(?:help|assist|answer|provide|comply|fulfil|fulfill|do|give|share|discuss|create|write|generate|continue|support|engage|
             to\s+(?:help|assist|answer|provide)|with|that|this|,|\.|$)
      |i(?:'|’)m\s+(?:unable|not\s+able)\s+to\s+(?:help|assist|answer|provide|comply|fulfil|discuss|create|write|generate)
      |(?:this|that|your)\s+(?:request|question|content|prompt)\b[^.!?\n]{0,40}?\b(?:violates|goes\s+against|is\s+against|can\s?not\s+be)\b
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Verdict(IntEnum):
    """What becomes of an offer; values as in farthing.cache.v1.NotStored, 0 for kept."""

    KEPT = 0
    INVALIDATED = 1
    NO_ROOM = 2
    REFUSAL = 3
    EMPTY = 4
    LESSER_TIER = 5


def admit(text: str) -> Verdict:
    """Whether the text of a complete answer may be kept."""
    if not text.strip():
        return Verdict.EMPTY
    return Verdict.REFUSAL if _REFUSAL.match(text[:HEAD_CHARS]) else Verdict.KEPT
