"""What a pair of prompts looks like to the verifier, in numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

from farthing_cache.domain import lexicon
from farthing_cache.domain.profile import SKETCH_BYTES, Kind, Profile, Trait, Word
from farthing_cache.domain.question import Question
from farthing_cache.domain.veto import Veto, veto

# Of what these numbers read in a profile: another one is for another verifier.
VERSION: Final = 1
NAMES: Final[tuple[str, ...]] = (
    "cosine",
    "strange_words",
    "strange_words_more",
    "shared_words",
    "strange_share",
    "names_strange",
    "names_strange_more",
    "scoped_strange",
    "scoped_strange_more",
    "kept_ends",
    "substitution",
    "one_sided",
    "in_order",
    "spelling",
    "spelling_bits",
    "size_ratio",
    "size",
    "same_question",
    "open_question",
    "command_differs",
    "negations",
    "quantifiers_differ",
    "backward_differs",
    "same_words",
    "vetoed",
    "misspelled",
    "strange_spelled",
    "strange_spelled_more",
    "last_strange",
    "bare_in_order",
    "roles_kept",
)


def features(p: Profile, q: Profile, cosine: float, *, vetoed: bool | None = None) -> tuple[float, ...]:
    """One number for each of NAMES; symmetric in p and q. Who knows whether a rule fires says so and saves time."""
    mine, yours = [word.hash for word in p.words], [word.hash for word in q.words]
    known, other = set(mine), set(yours)
    only_p = [word for word in p.words if word.hash not in other]
    only_q = [word for word in q.words if word.hash not in known]
    few, many = sorted((len(only_p), len(only_q)))
    shared = len(known & other)
    names = sorted(sum(word.kind is not Kind.WORD for word in only) for only in (only_p, only_q))
    scoped = sorted(sum(word.role > 0 for word in only) for only in (only_p, only_q))
    kept = _kept_ends(mine, yours)
    misspelled = _misspelled(only_p, only_q)
    bare = _bare(p), _bare(q)
    unlike = (p.sketch ^ q.sketch).bit_count()
    return (
        cosine,
        math.log1p(few),
        math.log1p(many),
        math.log1p(shared),
        (few + many) / max(1, few + many + 2 * shared),
        float(names[0]),
        float(names[1]),
        float(scoped[0]),
        float(scoped[1]),
        kept,
        float(few == 1 and many == 1 and kept > 0.5),
        float(few == 0 and many > 0),
        _in_order(mine, yours, known & other),
        1 - unlike / max(1, (p.sketch | q.sketch).bit_count()),
        unlike / (SKETCH_BYTES * (1 + few + many)),
        min(p.size, q.size) / max(1, p.size, q.size),
        math.log1p(min(p.size, q.size)),
        float(p.question == q.question),
        float(Question.NONE in (p.question, q.question) or Question.COMMAND in (p.question, q.question)),
        float((p.question == Question.COMMAND) != (q.question == Question.COMMAND)),
        float(p.negations + q.negations > 0),
        float((p.quantifiers ^ q.quantifiers).bit_count()),
        float(bool((p.traits ^ q.traits) & Trait.BACKWARD)),
        float(few + many == 0),
        float(_vetoed(p, q) if vetoed is None else vetoed),
        float(misspelled),
        math.log1p(few - misspelled),
        math.log1p(many - misspelled),
        float(mine[-1:] != yours[-1:]),
        _in_order(*bare, set(bare[0]) & set(bare[1])),
        _roles_kept(p, q),
    )


def _misspelled(only_p: list[Word], only_q: list[Word]) -> int:
    """Words of one side that another of the other side may be, with a letter more or less."""
    left = [word.letters for word in only_q if word.kind is Kind.WORD]
    found = 0
    for word in only_p:
        near = next((one for one in left if (one ^ word.letters).bit_count() <= 1), None)
        if near is not None and word.kind is Kind.WORD:
            left.remove(near)
            found += 1
    return found


def _vetoed(p: Profile, q: Profile) -> bool:
    return veto(p, q) not in (None, Veto.LENGTH)


def _kept_ends(mine: list[int], yours: list[int]) -> float:
    """Share of the longer text that both begin and end with: near 1 when one word was replaced or put in."""
    shorter = min(len(mine), len(yours))
    ahead = 0
    while ahead < shorter and mine[ahead] == yours[ahead]:
        ahead += 1
    behind = 0
    while behind < shorter - ahead and mine[-1 - behind] == yours[-1 - behind]:
        behind += 1
    return (ahead + behind) / max(1, len(mine), len(yours))


def _bare(p: Profile) -> list[int]:
    """The words that no preposition leads and no "and" joins: the others may stand elsewhere and mean the same."""
    joined = [word.role == lexicon.ROLE_JOINED for word in p.words]
    return [
        word.hash for word, after in zip(p.words, [*joined, False][1:], strict=True) if word.role == 0 and not after
    ]


def _roles_kept(p: Profile, q: Profile) -> float:
    """Share of the led words of both that the same kind of preposition leads."""
    led = [{word.hash: word.role for word in one.words if word.role not in (0, lexicon.ROLE_JOINED)} for one in (p, q)]
    shared = led[0].keys() & led[1].keys()
    return sum(led[0][word] == led[1][word] for word in shared) / max(1, len(led[0].keys() | led[1].keys()))


def _in_order(mine: list[int], yours: list[int], shared: set[int]) -> float:
    """Share of neighbouring shared words that the other text has in the same order."""
    if len(shared) < 2:
        return 1.0
    place = {word: at for at, word in enumerate(yours)}
    order = [place[word] for word in mine if word in shared]
    return sum(one < two for one, two in pairwise(order)) / max(1, len(order) - 1)
