"""How far one text, put before or after every prompt, gets: it is the best of 2,000 random ones.

They are words of the training prompts, phrases that sound hard, and random letters. Each is tried on training prompts
by the first stage, the best again on more of them; measured is the share of held-out prompts that the winner lifts.

prefix_attack_upgrade: prompts with the small tier that get a higher one, the winner chosen and measured by both stages;
..._first_stage: chosen and measured by the first stage alone; suffix_...: put after the prompt instead.
prefix_attack_gain: prompts below the median gain that get above it, by both stages: what a spending target goes by.
"""

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from bench.results import Figure
from bench.routing import bootstrap
from farthing_classifier.domain import ngrams
from farthing_models.corpus import Numbers
from farthing_models.fitting import Matrix

TRIES = 2_000
TRIED_ON = 24
FINALISTS = 20
FINAL_ON = 60
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
HARD_PHRASES = (
    "prove rigorously",
    "step by step",
    "using advanced graduate mathematics",
    "analyze and compare",
    "this is extremely difficult",
    "for an expert audience",
    "derive from first principles",
    "quantum field theory",
    "think very carefully",
    "evaluate the following legal argument",
    "write a distributed system",
    "explain why and how",
)
Judging = Callable[[Sequence[str]], Matrix]
Put = Callable[[str, str], str]


class Judge(Protocol):
    """The pipeline, by one stage and by both: calibrated success of the tiers, and the tier."""

    @property
    def floor(self) -> float: ...
    @property
    def gain_limit(self) -> float: ...
    def first(self, texts: Sequence[str]) -> Matrix: ...
    def success(self, texts: Sequence[str]) -> Matrix: ...


def figures(judge: Judge, train: Sequence[str], held: Sequence[str], chance: random.Random) -> dict[str, Figure]:
    """Each attack's share of lifted prompts, and how many prompts there were to lift."""

    def upgraded(success: Matrix) -> Numbers:
        return np.asarray(success[:, 0] < judge.floor)

    def gains(success: Matrix) -> Numbers:
        return np.asarray(success[:, 2] - success[:, 0] > judge.gain_limit)

    words = sorted({word for text in train for word in ngrams.words(text)})
    added = [_added(words, chance) for _ in range(TRIES)]
    made: dict[str, Figure] = {}
    for place, put in (("prefix", _before), ("suffix", _after)):
        low = _unlifted(train, judge.first, upgraded)
        tried = _tried(judge.first, put, added, chance.sample(low, min(TRIED_ON, len(low))))
        final = chance.sample(low, min(FINAL_ON, len(low)))
        by_success = [added[number] for number in np.argsort(tried[:, 0])[:FINALISTS]]
        by_gain = [added[number] for number in np.argsort(tried[:, 0] - tried[:, 2])[:FINALISTS]]
        attacks = [("upgrade", by_success, judge.success, upgraded)] if place == "prefix" else []
        attacks.append(("upgrade_first_stage", by_success, judge.first, upgraded))
        if place == "prefix":
            attacks.append(("gain", by_gain, judge.success, gains))
        for name, finalists, judging, lifts in attacks:
            tried_on = _unlifted(final, judging, lifts)
            shares = [float(lifts(judging([put(text, each) for text in tried_on])).mean()) for each in finalists]
            best = finalists[int(np.argmax(shares))]
            targets = _unlifted(held, judging, lifts)
            lifted = lifts(judging([put(text, best) for text in targets])).astype(np.float64)
            made[f"{place}_attack_{name}"] = bootstrap.mean(lifted, 1)
            if name == "upgrade":
                made["prefix_attack_prompts"] = len(targets)
    return made


def _before(text: str, added: str) -> str:
    return f"{added} {text}"


def _after(text: str, added: str) -> str:
    return f"{text} {added}"


def _unlifted(texts: Sequence[str], judging: Judging, lifts: Callable[[Matrix], Numbers]) -> list[str]:
    return [text for text, lifted in zip(texts, lifts(judging(texts)), strict=True) if not lifted]


def _tried(judging: Judging, put: Put, added: Sequence[str], texts: Sequence[str]) -> Matrix:
    """The mean success of each tier behind each of the added texts."""
    return np.asarray([judging([put(text, each) for text in texts]).mean(axis=0) for each in added])


def _added(words: Sequence[str], chance: random.Random) -> str:
    kind = chance.randrange(3)
    if kind == 0:
        return " ".join(chance.choice(words) for _ in range(chance.randrange(3, 13)))
    if kind == 1:
        return ", ".join(chance.choice(HARD_PHRASES) for _ in range(chance.randrange(1, 4))) + ":"
    return " ".join(
        "".join(chance.choice(_LETTERS) for _ in range(chance.randrange(3, 9))) for _ in range(chance.randrange(2, 9))
    )
