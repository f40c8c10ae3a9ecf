"""The calibration that ships with the heads: fitted on what they say of texts that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from farthing_classifier.domain.calibration import Calibration, Curve
from farthing_classifier.domain.tiers import Tier
from farthing_models import fitting
from farthing_models.corpus import Corpus, Numbers
from farthing_models.fitting import Matrix
from farthing_models.heads import MEDIUM_SHARE

TIERS: Final = tuple(tier.value for tier in Tier)
KNOTS: Final = tuple(number / 4.0 for number in range(-20, 25))


@dataclass(frozen=True, slots=True)
class Curves:
    """A slope and a shift of the log-odds, the same for every tier: curves of their own would change the order of the
    gains, which are small differences between them. The heads leave little to correct. What a deployment learns from
    its own outcomes may differ from tier to tier."""

    slope: float
    shift: float

    def successes(self, scores: Matrix) -> Matrix:
        """Calibrated probabilities; none falls from one tier to the next."""
        return np.maximum.accumulate(self._odds(scores), axis=1)

    def calibration(self, version: str, heads: str) -> Calibration:
        """As the service reads it: points of the curves, straight between them."""
        curve = Curve(KNOTS, tuple(round(float(odd), 6) for odd in self._odds(np.asarray(KNOTS))))
        return Calibration(version, heads, dict.fromkeys(Tier, curve))

    def _odds(self, scores: Matrix) -> Matrix:
        return fitting.sigmoid(self.slope * scores + self.shift)


def outcomes(corpus: Corpus) -> Matrix:
    """What each tier made of each text. The medium tier is between the others, as the heads assume."""
    medium = corpus.small + MEDIUM_SHARE * (corpus.large - corpus.small)
    return np.column_stack([corpus.small, medium, corpus.large])


def fit(corpus: Corpus, scores: Matrix, rows: Numbers | None = None) -> Curves:
    """From held-out scores of texts with an outcome; `rows`: of these alone."""
    known = np.flatnonzero(corpus.has_outcome) if rows is None else rows
    return Curves(*fitting.calibration(scores[known].ravel(), outcomes(corpus)[known].ravel()))


def cross_calibrated(corpus: Corpus, reference: Matrix, scores: Matrix, folds: Numbers) -> Matrix:
    """Each fold of `scores` calibrated by the `reference` scores of the other folds' texts: for measuring, so that no
    text helps to calibrate itself."""
    calibrated = np.zeros_like(scores)
    for fold in np.unique(folds):
        others = np.flatnonzero(corpus.has_outcome & (folds != fold))
        calibrated[folds == fold] = fit(corpus, reference, others).successes(scores[folds == fold])
    return calibrated
