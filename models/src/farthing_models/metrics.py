"""How good heads are, on rows that they were not fitted on."""

from __future__ import annotations

from typing import Final

import numpy as np

from farthing_models.fitting import Matrix

ECE_BINS: Final = 10


def auc(scores: Matrix, labels: Matrix) -> float:
    """Area under the ROC curve, labels cut at one half; ties count half."""
    positive = labels > 0.5
    count = int(positive.sum())
    if count in (0, len(labels)):
        return float("nan")
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2.0)[inverse]
    return float((ranks[positive].sum() - count * (count + 1) / 2.0) / (count * (len(labels) - count)))


def apgr(scores: Matrix, weak: Matrix, strong: Matrix) -> float:
    """Average performance gap recovered when the highest scores go to the strong model first; 0.5 is random."""
    gains = (strong - weak)[np.argsort(-scores, kind="stable")]
    recovered = np.concatenate([[0.0], np.cumsum(gains)]) / gains.sum()
    return float(np.trapezoid(recovered, dx=1.0 / len(gains)))


def strong_calls_for(share: float, scores: Matrix, weak: Matrix, strong: Matrix) -> float:
    """The least share of strong calls that reaches `share` of the strong model's quality."""
    gains = (strong - weak)[np.argsort(-scores, kind="stable")]
    quality = weak.mean() + np.concatenate([[0.0], np.cumsum(gains)]) / len(gains)
    enough = np.flatnonzero(quality >= share * strong.mean())
    return float(enough[0] / len(gains)) if len(enough) else float("nan")


def ece(probabilities: Matrix, labels: Matrix) -> float:
    """Expected calibration error over ten bins with as many rows each."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, ECE_BINS)
    gaps = [abs(probabilities[part].mean() - labels[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(order))
