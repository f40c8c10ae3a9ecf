"""A new calibration from what callers said about answers: fitted on one part of the outcomes, measured on the other.

A tier's new probability is sigmoid(offset + slope x log-odds of the present one), with normal priors around (0, 1): few
outcomes move the present calibration a little, many as far as they say. The slope is positive, so that the map rises.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain.calibration import MAX_KNOTS, Calibration, Curve, content
from farthing_classifier.domain.tiers import TIERS, Tier
from farthing_models.metrics import ece

Matrix = npt.NDArray[np.float64]

MIN_OUTCOMES: Final = 50
HELD_OUT_SHARE: Final = 0.4
# How far traffic may plausibly be from the training data: an offset of 1 turns 0.5 into 0.73.
OFFSET_SD: Final = 1.0
SLOPE_SD: Final = 0.5
MIN_SLOPE: Final = 0.05
# Probabilities of 0 and 1 have no log-odds, and one surprise would cost endlessly much.
EDGE: Final = 1e-4
# Differences below it are rounding.
TOLERANCE: Final = 1e-9
NEWTON_STEPS: Final = 50
SMALLEST_STEP: Final = 1e-10
# Knots that a map is given at least, so that it can bend.
FINE: Final = 64
# The least that a map rises from one knot to the next, and how near 0 and 1 it comes: as many steps as knots fit in.
STEP: Final = 1e-9
INNER_EDGE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Observation:
    """One outcome: the score of the tier that answered, before calibration, and whether the answer was acceptable."""

    request_id: str
    tier: Tier
    score: float
    acceptable: bool
    model_version: str
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """How far probabilities are from outcomes; less is better."""

    brier: float
    log_loss: float
    ece: float


@dataclass(frozen=True, slots=True)
class TierResult:
    """What became of one tier. `kept` says why it keeps its present map; then there is no fit. Figures are of the part
    that was held out."""

    tier: Tier
    outcomes: int
    fitted: int = 0
    held_out: int = 0
    kept: str = ""
    offset: float = 0.0
    slope: float = 1.0
    before: Figures | None = None
    after: Figures | None = None

    @property
    def worse(self) -> tuple[str, ...]:
        """The figures that rose on the part that was held out."""
        if self.before is None or self.after is None:
            return ()
        before, after = asdict(self.before), asdict(self.after)
        return tuple(name for name in before if after[name] > before[name] + TOLERANCE)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A calibration that could take the place of the present one, and what is known about it."""

    calibration: Calibration
    present: str
    tiers: tuple[TierResult, ...]
    left_out: Mapping[str, int]

    @property
    def changed(self) -> bool:
        """Whether any tier has a new map."""
        return any(not each.kept for each in self.tiers)

    @property
    def worse(self) -> bool:
        """Whether any tier's probabilities are further from what happened, by the scores that only the truth makes
        least (Brier, log loss). The calibration error of few outcomes is mostly noise: it is told, and decides
        nothing."""
        return any({"brier", "log_loss"} & set(each.worse) for each in self.tiers)


def recalibrate(
    present: Calibration, observations: Iterable[Observation], made_at: datetime, *, min_outcomes: int = MIN_OUTCOMES
) -> Recalibration:
    """Fit every tier that has enough outcomes. The same outcomes give the same calibration, in whatever order."""
    usable, left_out = _usable(present, observations)
    results, curves = [], {}
    for tier in TIERS:
        rows = [each for each in usable if each.tier is tier]
        result, curves[tier] = _tier(tier, present.curves[tier], rows, min_outcomes)
        results.append(result)
    version = _version(present, curves, made_at)
    return Recalibration(Calibration(version, present.heads, curves), present.version, tuple(results), left_out)


def file_content(made: Recalibration, made_at: datetime) -> dict[str, Any]:
    """What the classifier reads, and beside it where it comes from and whether it is worse than what was there."""
    tiers = {each.tier.value: {**_without_tier(each), "worse": list(each.worse)} for each in made.tiers}
    return {
        **content(made.calibration),
        "recalibration": {
            "from": made.present,
            "made_at": made_at.isoformat(timespec="seconds"),
            "worse_on_held_out": made.worse,
            "left_out": dict(made.left_out),
            "tiers": tiers,
        },
    }


def figures(curve: Curve, rows: Sequence[Observation]) -> Figures:
    """How far a map is from what happened."""
    probabilities = np.clip([curve.probability(row.score) for row in rows], EDGE, 1.0 - EDGE)
    labels = _labels(rows)
    return Figures(
        brier=float(np.mean((probabilities - labels) ** 2)),
        log_loss=float(-np.mean(np.log(np.where(labels > 0.5, probabilities, 1.0 - probabilities)))),
        ece=ece(probabilities, labels),
    )


def is_held_out(request_id: str) -> bool:
    """Whether an outcome is for measuring only; the same each time, so that nothing measured on was ever fitted on."""
    digest = hashlib.sha256(b"farthing recalibration v1:" + request_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE


def _usable(present: Calibration, observations: Iterable[Observation]) -> tuple[list[Observation], dict[str, int]]:
    """The last word on each request; without what the present heads did not foretell, and without cascades, whose
    answers a judge had chosen among."""
    latest = {each.request_id: each for each in observations}
    usable, left_out = [], Counter[str]()
    for each in sorted(latest.values(), key=lambda each: each.request_id):
        if each.model_version != present.heads and not each.model_version.startswith(f"{present.heads}+"):
            left_out["of other models"] += 1
        elif each.cascade:
            left_out["of cascades"] += 1
        else:
            usable.append(each)
    return usable, dict(left_out)


def _tier(tier: Tier, curve: Curve, rows: list[Observation], min_outcomes: int) -> tuple[TierResult, Curve]:
    fit = [row for row in rows if not is_held_out(row.request_id)]
    held = [row for row in rows if is_held_out(row.request_id)]
    if len(rows) < min_outcomes or not fit or not held:
        return TierResult(tier, len(rows), kept=f"{len(rows)} outcomes are fewer than {min_outcomes}"), curve
    offset, slope = _fit(_log_odds([curve.probability(row.score) for row in fit]), _labels(fit))
    new = _moved(curve, offset, slope)
    before, after = figures(curve, held), figures(new, held)
    return TierResult(tier, len(rows), len(fit), len(held), "", offset, slope, before, after), new


def _fit(log_odds: Matrix, labels: Matrix) -> tuple[float, float]:
    """Offset and slope that are most probable after the outcomes; Newton's method on a convex function of two."""
    offset, slope = _newton(np.stack([np.ones_like(log_odds), log_odds], axis=1), labels, np.zeros_like(labels))
    if slope >= MIN_SLOPE:
        return offset, slope
    # What was foretold says the opposite of what happened: as flat as a rising map may be, at the right height.
    fixed = MIN_SLOPE * log_odds
    (only,) = _newton(np.ones((len(labels), 1)), labels, fixed)
    return only, MIN_SLOPE


def _newton(columns: Matrix, labels: Matrix, fixed: Matrix) -> tuple[float, ...]:
    """The least of a convex function: steps are halved until each goes down, which undamped ones need not."""
    centre = np.array([0.0, 1.0])[: columns.shape[1]]
    precision = np.diag([OFFSET_SD**-2, SLOPE_SD**-2][: columns.shape[1]])

    def loss(weights: Matrix) -> float:
        moved = columns @ weights + fixed
        away = weights - centre
        return float(np.sum(np.logaddexp(0.0, moved) - labels * moved) + away @ precision @ away / 2.0)

    weights = centre.copy()
    for _ in range(NEWTON_STEPS):
        expected = _sigmoid(columns @ weights + fixed)
        gradient = columns.T @ (expected - labels) + precision @ (weights - centre)
        curvature = (columns * (expected * (1.0 - expected))[:, None]).T @ columns + precision
        step = np.linalg.solve(curvature, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > SMALLEST_STEP:
            step = step / 2.0
        weights = weights - step
        if np.abs(step).max() <= SMALLEST_STEP:
            break
    return tuple(float(weight) for weight in weights)


def _moved(curve: Curve, offset: float, slope: float) -> Curve:
    """The map with every knot moved; strictly rising, whatever rounding does at the ends."""
    scores = _fine(curve.scores)
    log_odds = _log_odds([curve.probability(score) for score in scores])
    moved = np.clip(_sigmoid(offset + slope * log_odds), INNER_EDGE, 1.0 - INNER_EDGE)
    rising = [float(moved[0])]
    for probability in moved[1:]:
        rising.append(max(float(probability), rising[-1] + STEP))
    return Curve(scores, tuple(rising))


def _fine(scores: tuple[float, ...]) -> tuple[float, ...]:
    """The knots, with more between those that are far apart: a line between them is bent when it is moved."""
    if len(scores) + FINE > MAX_KNOTS:
        return scores
    step = (scores[-1] - scores[0]) / FINE
    found = [scores[0]]
    for before, after in pairwise(scores):
        parts = max(1, round((after - before) / step))
        between = (before + (after - before) * part / parts for part in range(1, parts))
        found += [score for score in between if found[-1] < score < after]
        found.append(after)
    return tuple(found)


def _sigmoid(log_odds: Matrix) -> Matrix:
    found: Matrix = 0.5 * (1.0 + np.tanh(log_odds / 2.0))  # which overflows nowhere
    return found


def _log_odds(probabilities: Sequence[float]) -> Matrix:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), EDGE, 1.0 - EDGE)
    found: Matrix = np.log(clipped / (1.0 - clipped))
    return found


def _labels(rows: Sequence[Observation]) -> Matrix:
    return np.array([1.0 if row.acceptable else 0.0 for row in rows])


def _version(present: Calibration, curves: Mapping[Tier, Curve], made_at: datetime) -> str:
    told = json.dumps([present.version, [[curves[tier].scores, curves[tier].probabilities] for tier in TIERS]])
    return f"traffic-{made_at:%Y%m%d}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _without_tier(result: TierResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name != "tier"}
