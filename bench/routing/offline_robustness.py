"""Does the tier that a prompt gets hold under harmless edits, and against words put there to raise it?

Heads are fitted without the first fold; prompts of that fold are judged by the whole pipeline, each edited text
embedded again. The quality floor is the median calibrated success of the small tier on the other folds: where it lies,
most prompts can flip. The chosen tier is the cheapest one whose calibrated success meets the floor, else the large one.

flip_rate: the share of all (prompt, edit) pairs whose tier differs from the tier of the prompt unedited.
The attacks are in offline_attacks.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.results import Figure
from bench.routing import bootstrap, offline_attacks
from bench.routing.offline_study import CACHE, ENCODER, Study
from farthing_models import calibrating, corpus, heads, train_classifier
from farthing_models.calibrating import Curves
from farthing_models.corpus import Numbers
from farthing_models.edits import EDITS
from farthing_models.fitting import Matrix
from farthing_models.heads import FittedHeads

PROMPTS = 300
HELD_OUT = 0


@dataclass(frozen=True)
class Judge:
    """The whole pipeline, from text to tier."""

    study: Study
    fitted: FittedHeads
    curves: Curves
    floor: float
    gain_limit: float

    def first(self, texts: Sequence[str]) -> Matrix:
        """Calibrated success by the first stage alone."""
        return self.curves.successes(self.fitted.stage0.scores(corpus.Views.of(texts)))

    def success(self, texts: Sequence[str]) -> Matrix:
        """Calibrated success by both stages."""
        views = corpus.Views.of(texts)
        embeddings = corpus.embed(texts, self.study.encoder, CACHE)
        first = self.fitted.stage0.scores(views)
        return self.curves.successes(self.fitted.stage1.scores(embeddings, views.whole.lexical, first))

    def tiers(self, success: Matrix) -> Numbers:
        """0 small, 1 medium, 2 large."""
        meets = success >= self.floor
        return np.asarray(np.where(meets.any(axis=1), meets.argmax(axis=1), success.shape[1] - 1))


def figures(study: Study) -> dict[str, Figure]:
    """The flips, with each edit beside, and the attacks."""
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
    return made | offline_attacks.figures(judge, train, texts, chance)


def _judge(study: Study) -> tuple[Judge, list[str], list[str]]:
    """Fitted without one fold; questions of the others, and of that fold, each set as often as the others."""
    folds, made = study.random.folds, study.corpus
    fitted = heads.fit(made, folds != HELD_OUT, train_classifier.SEED, train_classifier.load_tokenizer(ENCODER))
    rest = np.flatnonzero(made.has_outcome & (folds != HELD_OUT))
    curves = calibrating.fit(made, study.random.both, rest)
    known = curves.successes(study.random.both[rest])
    floor, gain_limit = float(np.median(known[:, 0])), float(np.median(known[:, 2] - known[:, 0]))
    chance = random.Random(study.seed)
    train: list[str] = []
    held: list[str] = []
    for source in range(3):
        for chosen, out in ((folds != HELD_OUT, train), (folds == HELD_OUT, held)):
            rows = np.flatnonzero((made.source == source) & chosen)
            out += [made.rows[row].text for row in chance.sample(rows.tolist(), min(PROMPTS // 3, len(rows)))]
    return Judge(study, fitted, curves, floor, gain_limit), train, held
