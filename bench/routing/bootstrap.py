"""95 % intervals of routing figures: the questions are drawn again, with replacement; the router stays."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Interval = tuple[float, float, float]

DRAWS = 500
ENDS = (0.025, 0.975)


def interval(value: float, figure: Callable[[Matrix], float], questions: int, seed: int) -> Interval:
    """The value with both ends; `figure` computes it from how often each question was drawn."""
    rng = np.random.default_rng(seed)
    shares = np.full(questions, 1.0 / questions)
    drawn = [figure(rng.multinomial(questions, shares).astype(np.float64)) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, ENDS)
    return round(value, 4), round(float(low), 4), round(float(high), 4)


def ends(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Both ends for the mean of one number for each question."""
    return mean(np.asarray(values, dtype=np.float64), seed)[1:]


def apgr(scores: Matrix, weak: Matrix, strong: Matrix, seed: int) -> Interval:
    """Average performance gap recovered, at full resolution."""
    order = np.argsort(-scores, kind="stable")
    gains = (strong - weak)[order]

    def figure(times: Matrix) -> float:
        recovered = np.concatenate([[0.0], np.cumsum(times * gains)])
        calls = np.concatenate([[0.0], np.cumsum(times)]) / times.sum()
        return float(np.trapezoid(recovered / recovered[-1], calls))

    return interval(figure(np.ones(len(gains))), figure, len(gains), seed)


def calls_for_quality(share: float, scores: Matrix, weak: Matrix, strong: Matrix, seed: int) -> Interval:
    """The least share of strong calls that reaches `share` of the strong model's quality."""
    order = np.argsort(-scores, kind="stable")
    low, high = weak[order], strong[order]

    def figure(times: Matrix) -> float:
        quality = (times @ low) + np.concatenate([[0.0], np.cumsum(times * (high - low))])
        return _calls(times, quality >= share * (times @ high))

    return interval(figure(np.ones(len(low))), figure, len(low), seed)


def calls_for_gap(share: float, scores: Matrix, weak: Matrix, strong: Matrix, seed: int) -> Interval:
    """The least share of strong calls that recovers `share` of the gap (CPT)."""
    gains = (strong - weak)[np.argsort(-scores, kind="stable")]

    def figure(times: Matrix) -> float:
        recovered = np.concatenate([[0.0], np.cumsum(times * gains)])
        return _calls(times, recovered >= share * recovered[-1])

    return interval(figure(np.ones(len(gains))), figure, len(gains), seed)


def mean(values: Matrix, seed: int) -> Interval:
    """The mean of one number for each question."""
    return interval(float(values.mean()), lambda times: float(times @ values / times.sum()), len(values), seed)


def _calls(times: Matrix, enough: npt.NDArray[np.bool_]) -> float:
    first = np.flatnonzero(enough)
    return float(times[: first[0]].sum() / times.sum()) if len(first) else float("nan")
