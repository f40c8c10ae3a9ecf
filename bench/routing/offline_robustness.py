"""Does the tier that a prompt gets hold under harmless edits, and against a prefix made to raise it?

Heads are fitted without the first fold; prompts of that fold are judged by the whole pipeline, each edited text
embedded again. The quality floor is the median calibrated success of the small tier on the other folds: where it lies,
most prompts can flip. The chosen tier is the cheapest one whose calibrated success meets the floor, else the large one.

flip_rate: the share of all (prompt, edit) pairs whose tier differs from the tier of the prompt unedited.
prefix_attack_upgrade: the share of held-out prompts with the small tier that one prefix, put before them all, lifts to
a higher tier. The prefix is the best of 2,000 random ones (words of the training prompts, phrases that sound hard,
random letters): each tried on training prompts by the first stage, the best again by both.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.results import Figure
from bench.routing import bootstrap
from bench.routing.offline_study import CACHE, ENCODER, Study
from farthing_classifier.domain import ngrams
from farthing_models import calibrating, corpus, heads, train_classifier
from farthing_models.bags import Bags
from farthing_models.calibrating import Curves
from farthing_models.corpus import Numbers
from farthing_models.edits import EDITS
from farthing_models.fitting import Matrix
from farthing_models.heads import FittedHeads

PROMPTS = 300
TRIES = 2_000
TRIED_ON = 24
FINALISTS = 20
FINAL_ON = 60
HELD_OUT = 0
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


@dataclass(frozen=True)
class Judge:
    """The whole pipeline, from text to tier."""

    study: Study
    fitted: FittedHeads
    curves: Curves
    floor: float

    def first(self, texts: Sequence[str]) -> Matrix:
        """Scores by the first stage."""
        return self.fitted.stage0.scores(Bags.of([ngrams.buckets(text) for text in texts]), corpus.surface(texts))

    def success(self, texts: Sequence[str]) -> Matrix:
        """Calibrated success by both stages."""
        embeddings = corpus.embed(texts, self.study.encoder, CACHE)
        scores = self.fitted.stage1.scores(embeddings, corpus.surface(texts), self.first(texts))
        return self.curves.successes(scores)

    def tiers(self, success: Matrix) -> Numbers:
        """0 small, 1 medium, 2 large."""
        meets = success >= self.floor
        return np.asarray(np.where(meets.any(axis=1), meets.argmax(axis=1), success.shape[1] - 1))


def figures(study: Study) -> dict[str, Figure]:
    """Both figures, with each edit beside."""
    judge, train, held = _judge(study)
    chance = random.Random(study.seed)
    texts = chance.sample(held, min(PROMPTS, len(held)))
    before = judge.tiers(judge.success(texts))
    made: dict[str, Figure] = {}
    flips = []
    for name, edit in EDITS.items():
        after = judge.tiers(judge.success([edit(text, chance) for text in texts]))
        flipped = (after != before).astype(np.float64)
        made[f"flip_rate_{name}"] = round(float(flipped.mean()), 4)
        flips.append(flipped)
    made["flip_rate"] = bootstrap.mean(np.mean(flips, axis=0), study.seed)
    small = [text for text, tier in zip(texts, before, strict=True) if tier == 0]
    prefix = _attack(judge, train, chance)
    lifted = judge.tiers(judge.success([f"{prefix} {text}" for text in small])) > 0
    made["prefix_attack_upgrade"] = bootstrap.mean(lifted.astype(np.float64), study.seed)
    made["prefix_attack_prompts"] = len(small)
    return made


def _judge(study: Study) -> tuple[Judge, list[str], list[str]]:
    """Fitted without one fold; questions of the others, and of that fold, each set as often as the others."""
    folds, made = study.random.folds, study.corpus
    fitted = heads.fit(made, folds != HELD_OUT, train_classifier.SEED, train_classifier.load_tokenizer(ENCODER))
    rest = np.flatnonzero(made.has_outcome & (folds != HELD_OUT))
    curves = calibrating.fit(made, study.random.both, rest)
    floor = float(np.median(curves.successes(study.random.both[rest])[:, 0]))
    chance = random.Random(study.seed)
    train: list[str] = []
    held: list[str] = []
    for source in range(3):
        for chosen, out in ((folds != HELD_OUT, train), (folds == HELD_OUT, held)):
            rows = np.flatnonzero((made.source == source) & chosen)
            out += [made.rows[row].text for row in chance.sample(rows.tolist(), min(PROMPTS // 3, len(rows)))]
    return Judge(study, fitted, curves, floor), train, held


def _attack(judge: Judge, train: Sequence[str], chance: random.Random) -> str:
    """The prefix that lowers the small tier's success the most."""
    words = sorted({word for text in train for word in ngrams.words(text)})
    small = [
        text
        for text, tier in zip(train, judge.tiers(judge.curves.successes(judge.first(train))), strict=True)
        if tier == 0
    ]
    prefixes = [_prefix(words, chance) for _ in range(TRIES)]
    tried = chance.sample(small, min(TRIED_ON, len(small)))
    success = [judge.curves.successes(judge.first([f"{prefix} {text}" for text in tried]))[:, 0] for prefix in prefixes]
    best = np.argsort([float(each.mean()) for each in success])[:FINALISTS]
    final = chance.sample(small, min(FINAL_ON, len(small)))
    lifted = [
        float((judge.tiers(judge.success([f"{prefixes[number]} {text}" for text in final])) > 0).mean())
        for number in best
    ]
    return prefixes[int(best[int(np.argmax(lifted))])]


def _prefix(words: Sequence[str], chance: random.Random) -> str:
    kind = chance.randrange(3)
    if kind == 0:
        return " ".join(chance.choice(words) for _ in range(chance.randrange(3, 13)))
    if kind == 1:
        return ", ".join(chance.choice(HARD_PHRASES) for _ in range(chance.randrange(1, 4))) + ":"
    return " ".join(
        "".join(chance.choice(_LETTERS) for _ in range(chance.randrange(3, 9))) for _ in range(chance.randrange(2, 9))
    )
