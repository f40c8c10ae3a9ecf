"""Whether an answer agrees with a reference on what was asked: the number, the option, else the words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain.judging import final_answer, wording
from farthing_classifier.domain.judging.asked import Asked
from farthing_classifier.domain.judging.final_answer import FinalAnswer

# Of longer texts both ends are compared.
END_CHARS: Final = 8_192

# What equality and difference are worth. Numbers: measured, see models/cards/judge-v1.md; the rest is set, not learnt.
SAME: Final = 0.96
SAME_WORDS: Final = 0.98
CONTAINED: Final = 0.9
OTHER: Final = 0.04
# A short answer is a name or a phrase: then its words must be those of the reference.
SHORT_WORDS: Final = 12
# Numbers are compared to the cent.
PRECISION: Final = 0.005
# Long texts that share so much of their words (F1) agree as likely as not.
EVEN_OVERLAP: Final = 0.5
AGREES_FROM: Final = 0.6
DISAGREES_TO: Final = 0.4

# Chinese and Japanese put no space between words: there each character counts.
_IDEOGRAPHS: Final = r"\u3040-\u30ff\u3400-\u9fff"
_WORD: Final = re.compile(rf"\d+(?:[.,]\d+)*|[{_IDEOGRAPHS}]|[^\W\d_{_IDEOGRAPHS}]+")
_FILLER: Final = frozenset(
    "a an the is are was were be it its this that of in on at to and or for with as by so therefore answer".split()
)
_NEGATIONS: Final = frozenset("no not never none cannot n't nor neither without false incorrect wrong".split())
_YES_NO: Final = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The probability that both say the same."""

    probability: float

    @property
    def agrees(self) -> bool:
        """Whether it is likely."""
        return self.probability >= AGREES_FROM

    @property
    def disagrees(self) -> bool:
        """Whether the contrary is likely."""
        return self.probability <= DISAGREES_TO


def compare(answer: str, reference: str, asked: Asked) -> Agreement:
    """Both answer the same prompt; `asked` says what of them counts."""
    if not answer.strip():
        return Agreement(OTHER)
    declined = wording.is_refusal(answer), wording.is_refusal(reference)
    if any(declined):
        return Agreement(SAME if all(declined) else OTHER)
    mine, theirs = final_answer.find(answer), final_answer.find(reference)
    if asked.options and mine.option and theirs.option:
        return Agreement(SAME if mine.option == theirs.option else OTHER)
    if _numbers_count(asked, mine, theirs):
        return Agreement(SAME if _same_number(mine, theirs) else OTHER)
    return Agreement(_of_words(answer, reference))


def _numbers_count(asked: Asked, mine: FinalAnswer, theirs: FinalAnswer) -> bool:
    if mine.number is None or theirs.number is None:
        return False
    return asked.number or (mine.is_marked and theirs.is_marked)


def _same_number(mine: FinalAnswer, theirs: FinalAnswer) -> bool:
    assert mine.number is not None
    assert theirs.number is not None
    return abs(mine.number - theirs.number) <= PRECISION + 1e-6 * abs(theirs.number)


def _of_words(answer: str, reference: str) -> float:
    mine, theirs = _words(answer), _words(reference)
    if mine == theirs:
        return SAME_WORDS
    if not mine or not theirs:
        return OTHER
    if _verdict(mine) is not None and _verdict(theirs) is not None:
        return CONTAINED if _verdict(mine) == _verdict(theirs) else OTHER
    negated = bool(_NEGATIONS & set(mine)) != bool(_NEGATIONS & set(theirs))
    short, long = sorted((mine, theirs), key=len)
    if len(short) <= SHORT_WORDS:
        within = Counter(short) - Counter(long)
        share = 1.0 - within.total() / len(short)
        return OTHER if negated or share < 0.5 else OTHER + (CONTAINED - OTHER) * (2.0 * share - 1.0)
    overlap = _f1(Counter(mine), Counter(theirs))
    likely = min(CONTAINED, max(OTHER, 0.5 + (overlap - EVEN_OVERLAP)))
    return min(likely, 0.5) if negated else likely


def _words(text: str) -> list[str]:
    text = text if len(text) <= 2 * END_CHARS else f"{text[:END_CHARS]} {text[-END_CHARS:]}"
    plain = unicodedata.normalize("NFKC", text).casefold().replace("n't", " not").replace("n’t", " not")
    return [word for word in _WORD.findall(plain) if word not in _FILLER]


def _verdict(words: list[str]) -> bool | None:
    """Yes or no, where the answer begins with one of them."""
    return _YES_NO.get(words[0])


def _f1(mine: Counter[str], theirs: Counter[str]) -> float:
    return 2.0 * (mine & theirs).total() / (mine.total() + theirs.total())
