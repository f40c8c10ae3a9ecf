"""Why the answer to one prompt must not serve another, as far as words alone can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from farthing_cache.domain import lexicon, profile
from farthing_cache.domain.profile import Kind, Profile, Trait, Word
from farthing_cache.domain.question import Question, Tense


class Veto(StrEnum):
    """The rule that fired; its name is shown in decisions and counted."""

    LENGTH = "length"
    SCRIPT = "script"
    LANGUAGE = "language"
    NUMBERS = "numbers"
    UNITS = "units"
    NEGATION = "negation"
    ANTONYMS = "antonyms"
    QUANTIFIERS = "quantifiers"
    QUESTION = "question"
    ENTITIES = "entities"
    ORDER = "order"
    SCOPE = "scope"
    SIGNS = "signs"
    TENSE = "tense"


Rule = Callable[[Profile, Profile], bool]


def veto(p: Profile, q: Profile) -> Veto | None:
    """The first rule that forbids serving q's answer for p; symmetric. None means that nothing speaks against it."""
    for name, fires in _RULES:
        if fires(p, q):
            return name
    return None


def _too_long(p: Profile, q: Profile) -> bool:
    return bool((p.traits | q.traits) & Trait.LONG)


def _looks_alike(p: Profile, q: Profile) -> bool:
    return bool((p.traits | q.traits) & Trait.MIXED_SCRIPT)


def _languages_differ(p: Profile, q: Profile) -> bool:
    """Also fires for two texts of one other language: the rules below know English only."""
    if p.language != q.language and p.language and q.language:
        return True
    foreign = {p.language, q.language} - {0, profile.ENGLISH}
    return bool(foreign) and _hashes(p.words) != _hashes(q.words)


def _numbers_differ(p: Profile, q: Profile) -> bool:
    return _of(p, Kind.NUMBER, Kind.DATE) != _of(q, Kind.NUMBER, Kind.DATE)


def _units_differ(p: Profile, q: Profile) -> bool:
    one, other = _of(p, Kind.UNIT), _of(q, Kind.UNIT)
    return one != other and (bool(one and other) or bool(_of(p, Kind.NUMBER)))


def _signs_differ(p: Profile, q: Profile) -> bool:
    """What is said in signs is the same on both sides. What is only shown may be missing, and not be something else."""
    return p.said != q.said or (p.shown != q.shown and bool(p.shown and q.shown))


def _tenses_differ(p: Profile, q: Profile) -> bool:
    """ "Is Pluto a planet?" and "was Pluto a planet?". Where little else is alike, "is" and "will" promise the same."""
    if p.tense == q.tense or not (p.tense and q.tense):
        return False
    strange = max(len(_strange(p, q)), len(_strange(q, p)))
    if Tense.PAST not in (p.tense, q.tense):
        return strange == 0
    return strange <= 1 or Question.YES_NO in (p.question, q.question)


def _negations_differ(p: Profile, q: Profile) -> bool:
    return p.negations != q.negations


def _turned_round(p: Profile, q: Profile) -> bool:
    one, other = set(_hashes(p.words)), set(_hashes(q.words))
    if not p.opposites.isdisjoint(other - one) or not q.opposites.isdisjoint(one - other):
        return True
    before, after = _once(p), _once(q)
    return any({role, after.get(word)} in _OPPOSED for word, role in before.items())


_OPPOSED: Final = ({lexicon.ROLE_BEFORE, lexicon.ROLE_AFTER}, {lexicon.ROLE_WITH, lexicon.ROLE_WITHOUT})


def _quantifiers_differ(p: Profile, q: Profile) -> bool:
    if (p.quantifiers ^ q.quantifiers) & lexicon.DECISIVE:
        return True
    one, other = p.quantifiers & _AMOUNTS, q.quantifiers & _AMOUNTS
    return one != other and bool(one and other)


_AMOUNTS: Final = lexicon.ALL | lexicon.SOME
_DISTINCT: Final = frozenset(
    {Question.WHO, Question.WHEN, Question.WHERE, Question.WHY, Question.HOW, Question.HOW_MUCH}
)
_OPEN: Final = frozenset({Question.WHO, Question.WHEN, Question.WHY})
# "Where do I change it?" and "how do I change it?" are often one question.
_NEAR: Final = frozenset({frozenset({Question.WHERE, Question.HOW}), frozenset({Question.WHEN, Question.HOW_MUCH})})


def _questions_differ(p: Profile, q: Profile) -> bool:
    if p.question == q.question or frozenset({p.question, q.question}) in _NEAR:
        return False
    if p.question in _DISTINCT and q.question in _DISTINCT:
        return True
    return Question.YES_NO in (p.question, q.question) and bool({p.question, q.question} & _OPEN)


def _entities_differ(p: Profile, q: Profile) -> bool:
    return bool(_strange(p, q, Kind.NAME)) and bool(_strange(q, p, Kind.NAME))


def _order_differs(p: Profile, q: Profile) -> bool:
    one, other = _once(p), _once(q)
    shared = [word for word in one if word in other]
    return _roles_exchanged(one, other, shared) or _exchanged(p, q)


def _roles_exchanged(one: dict[int, int], other: dict[int, int], shared: list[int]) -> bool:
    """ "From Oslo to Rome" and "from Rome to Oslo"; "is tea better than milk" and "is milk better than tea"."""
    moves = {(one[word], other[word]) for word in shared if one[word] != other[word]}
    return any((after, before) in moves and {before, after} & _DIRECTED for before, after in moves)


_DIRECTED: Final = frozenset({lexicon.ROLE_FROM, lexicon.ROLE_TO, lexicon.ROLE_THAN})
_AROUND: Final = 3


def _exchanged(p: Profile, q: Profile) -> bool:
    """ "Dog bites man" and "man bites dog": the same words, two of them exchanged around others that stay."""
    one, other = _hashes(p.words), _hashes(q.words)
    if len(one) < _AROUND or one == other or Counter(one) != Counter(other):
        return False
    moved = [at for at, (mine, yours) in enumerate(zip(one, other, strict=True)) if mine != yours]
    first, last = moved[0], moved[-1]
    joined = lexicon.ROLE_JOINED in {p.words[first].role, p.words[last].role}
    return len(moved) == 2 and last - first > 1 and not joined


def _scopes_differ(p: Profile, q: Profile) -> bool:
    """One side says all that the other says, and narrows it: "… in Texas", "… for children", "… without sugar"."""
    mine, yours = _strange(p, q), _strange(q, p)
    if bool(mine) == bool(yours):
        return False
    return any(word.kind is Kind.NAME or word.role in _NARROWING for word in mine or yours)


_NARROWING: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 10})


def _hashes(words: tuple[Word, ...]) -> list[int]:
    return [word.hash for word in words]


def _of(p: Profile, *kinds: Kind) -> frozenset[int]:
    return frozenset(word.hash for word in p.words if word.kind in kinds)


def _strange(p: Profile, q: Profile, *kinds: Kind) -> list[Word]:
    """Words of p that q lacks."""
    known = set(_hashes(q.words))
    return [word for word in p.words if word.hash not in known and (not kinds or word.kind in kinds)]


def _once(p: Profile) -> dict[int, int]:
    counts = Counter(_hashes(p.words))
    return {word.hash: word.role for word in p.words if counts[word.hash] == 1}


_RULES: Final[tuple[tuple[Veto, Rule], ...]] = (
    (Veto.LENGTH, _too_long),
    (Veto.SCRIPT, _looks_alike),
    (Veto.LANGUAGE, _languages_differ),
    (Veto.NUMBERS, _numbers_differ),
    (Veto.UNITS, _units_differ),
    (Veto.SIGNS, _signs_differ),
    (Veto.NEGATION, _negations_differ),
    (Veto.ANTONYMS, _turned_round),
    (Veto.QUANTIFIERS, _quantifiers_differ),
    (Veto.QUESTION, _questions_differ),
    (Veto.TENSE, _tenses_differ),
    (Veto.ENTITIES, _entities_differ),
    (Veto.ORDER, _order_differs),
    (Veto.SCOPE, _scopes_differ),
)
