"""The calibration that ships with the heads: fitted on what they say of texts that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
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
    """A slope and a shift of the log-odds for each tier: two numbers that a few thousand outcomes settle well."""

    lines: tuple[tuple[float, float], ...]

    def successes(self, scores: Matrix) -> Matrix:
        """Calibrated probabilities; none falls from one tier to the next."""
        odds = np.column_stack([self._odds(scores[:, tier], tier) for tier in range(len(self.lines))])
        return np.asarray(np.maximum.accumulate(odds, axis=1))

    def calibration(self, version: str, heads: str) -> Calibration:
        """As the service reads it: points of the curves, straight between them."""
        knots = np.asarray(KNOTS)
        return Calibration(
            version,
            heads,
            {
                tier: Curve(KNOTS, tuple(round(float(odd), 6) for odd in self._odds(knots, number)))
                for number, tier in enumerate(Tier)
            },
        )

    def _odds(self, scores: Matrix, tier: int) -> Matrix:
        slope, shift = self.lines[tier]
        return fitting.sigmoid(slope * scores + shift)


def outcomes(corpus: Corpus) -> Matrix:
    """What each tier made of each text. The medium tier is between the others, as the heads assume."""
    medium = corpus.small + MEDIUM_SHARE * (corpus.large - corpus.small)
    return np.column_stack([corpus.small, medium, corpus.large])


def fit(corpus: Corpus, held: Sequence[Matrix], rows: Numbers | None = None) -> Curves:
    """From the scores of texts with an outcome, held out in one or several ways; `rows`: from these alone."""
    known = np.flatnonzero(corpus.has_outcome) if rows is None else rows
    labels = np.vstack([outcomes(corpus)[known]] * len(held))
    scores = np.vstack([part[known] for part in held])
    return Curves(tuple(fitting.calibration(scores[:, tier], labels[:, tier]) for tier in range(len(TIERS))))


def cross_calibrated(corpus: Corpus, scores: Matrix, folds: Numbers) -> Matrix:
    """Each fold calibrated on the others: for measuring, so that no text helps to calibrate itself."""
    calibrated = np.zeros_like(scores)
    for fold in np.unique(folds):
        others = np.flatnonzero(corpus.has_outcome & (folds != fold))
        calibrated[folds == fold] = fit(corpus, [scores], others).successes(scores[folds == fold])
    return calibrated
