"""What a text asks for, and whether of what is, was or will be."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from farthing_cache.domain import lexicon


class Question(IntEnum):
    """What a text asks for."""

    NONE = 0
    WHAT = 1
    WHO = 2
    WHEN = 3
    WHERE = 4
    WHY = 5
    HOW = 6
    HOW_MUCH = 7
    YES_NO = 8
    COMMAND = 9


class Tense(IntEnum):
    """When what is asked about is so."""

    NONE = 0
    PRESENT = 1
    PAST = 2
    FUTURE = 3


_WH: Final[dict[str, Question]] = {
    "who": Question.WHO,
    "whom": Question.WHO,
    "whose": Question.WHO,
    "when": Question.WHEN,
    "where": Question.WHERE,
    "why": Question.WHY,
    "how": Question.HOW,
    "what": Question.WHAT,
    "which": Question.WHAT,
}
_AFTER_HOW: Final = frozenset(
    "many much long far often old tall big high deep large fast heavy wide soon late expensive".split()
)
_AFTER_WHAT: Final[dict[str, Question]] = {
    "time": Question.WHEN,
    "year": Question.WHEN,
    "date": Question.WHEN,
    "day": Question.WHEN,
    "month": Question.WHEN,
    "place": Question.WHERE,
    "country": Question.WHERE,
    "city": Question.WHERE,
    "person": Question.WHO,
    "people": Question.WHO,
    "way": Question.HOW,
    "reason": Question.WHY,
    "reasons": Question.WHY,
    "price": Question.HOW_MUCH,
    "number": Question.HOW_MUCH,
    "steps": Question.HOW,
    "cause": Question.WHY,
    "causes": Question.WHY,
}
_STARTS: Final = 12
_ASIDE: Final = frozenset("please hi hello hey so and but ok okay well the a an".split())


def question(lower: Sequence[str], *, asked: bool) -> Question:
    """What the words of a text ask for; `asked`: it has a question mark."""
    head = [word for word in lower[:_STARTS] if word not in _ASIDE]
    if not head:
        return Question.NONE
    for at, word in enumerate(head):
        if word in _WH:
            return _refined(_WH[word], head[at + 1 : at + 7])
    if head[0] in lexicon.AUXILIARIES:
        return Question.YES_NO
    if head[0] in _AFTER_WHAT or head[0] in {"steps", "ways"}:
        return _AFTER_WHAT.get(head[0], Question.HOW)
    return Question.NONE if asked else Question.COMMAND


def _refined(found: Question, after: Sequence[str]) -> Question:
    if found is Question.HOW and after and after[0] in _AFTER_HOW:
        return Question.HOW_MUCH
    if found is Question.WHAT:
        for word in after[:4]:
            if word in _AFTER_WHAT:
                return _AFTER_WHAT[word]
            if word not in lexicon.AUXILIARIES and word not in {"best", "main", "right", "fastest", "easiest"}:
                break
    return found


def tense(lower: Sequence[str]) -> Tense:
    """By the first verb that says it."""
    return next((_TENSES[word] for word in lower[:_STARTS] if word in _TENSES), Tense.NONE)


_TENSES: Final = {
    **dict.fromkeys(("is", "are", "am"), Tense.PRESENT),
    **dict.fromkeys(("was", "were"), Tense.PAST),
    **dict.fromkeys(("will", "shall", "gonna"), Tense.FUTURE),
}
