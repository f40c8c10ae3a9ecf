"""From a tier's score (log-odds) to the probability of an acceptable answer: rising, and linear between knots."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from farthing_classifier.domain.tiers import TIERS, Tier

MIN_KNOTS: Final = 2
MAX_KNOTS: Final = 512

# A version is a label of metrics and a field of responses.
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class CalibrationError(ValueError):
    """This is no calibration that can be used. One line; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The map of one tier. Both sequences rise strictly; outside of `scores` the first and last probabilities hold."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.probabilities):
            raise CalibrationError("scores and probabilities differ in number")
        if not MIN_KNOTS <= len(self.scores) <= MAX_KNOTS:
            raise CalibrationError(f"needs {MIN_KNOTS} to {MAX_KNOTS} knots, has {len(self.scores)}")
        _must_rise("scores", self.scores)
        _must_rise("probabilities", self.probabilities)
        if not 0.0 <= self.probabilities[0] <= self.probabilities[-1] <= 1.0:
            raise CalibrationError("probabilities must lie within 0 and 1")

    def probability(self, score: float) -> float:
        """The calibrated probability."""
        if score <= self.scores[0]:
            return self.probabilities[0]
        if score >= self.scores[-1]:
            return self.probabilities[-1]
        right = bisect_right(self.scores, score)
        low, high = self.scores[right - 1], self.scores[right]
        share = (score - low) / (high - low)
        return self.probabilities[right - 1] * (1.0 - share) + self.probabilities[right] * share


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curves of all tiers. They belong to the heads whose version is `heads`: other heads score otherwise."""

    version: str
    heads: str
    curves: Mapping[Tier, Curve]

    def successes(self, scores: Sequence[float]) -> tuple[float, ...]:
        """For each of TIERS the probability of an acceptable answer; never falls from one tier to the next."""
        return rising([self.curves[tier].probability(score) for tier, score in zip(TIERS, scores, strict=True)])

    def must_belong_to(self, heads: str) -> None:
        """Refuses a calibration that was fitted on other heads."""
        if self.heads != heads:
            raise CalibrationError(
                f"the calibration {self.version} belongs to the heads {self.heads}, but {heads} is loaded"
            )


def parse(content: Mapping[str, Any]) -> Calibration:
    """The content of a calibration file, checked. Keys beside `version`, `heads` and `tiers` are the writer's own."""
    version, heads = content.get("version"), content.get("heads")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise CalibrationError("version must be 1 to 64 letters, digits, dots, hyphens, underscores and plus signs")
    if not isinstance(heads, str) or not heads:
        raise CalibrationError("heads must name the version of the heads that it was fitted on")
    tiers = content.get("tiers")
    if not isinstance(tiers, Mapping) or set(tiers) != {tier.value for tier in TIERS}:
        raise CalibrationError(f"tiers must hold exactly {', '.join(tier.value for tier in TIERS)}")
    return Calibration(version, heads, {tier: _curve(tier, tiers[tier.value]) for tier in TIERS})


def content(calibration: Calibration) -> dict[str, Any]:
    """What `parse` takes."""
    return {
        "version": calibration.version,
        "heads": calibration.heads,
        "tiers": {
            tier.value: {
                "scores": list(calibration.curves[tier].scores),
                "probabilities": list(calibration.curves[tier].probabilities),
            }
            for tier in TIERS
        },
    }


def rising(values: Sequence[float]) -> tuple[float, ...]:
    """The nearest sequence (least squares) that never falls: neighbours in the wrong order share their mean."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        blocks.append((mean, size))
    return tuple(mean for mean, size in blocks for _ in range(size))


def _curve(tier: Tier, entry: Any) -> Curve:
    if not isinstance(entry, Mapping):
        raise CalibrationError(f"tiers.{tier.value} must hold scores and probabilities")
    try:
        return Curve(_numbers(entry, "scores"), _numbers(entry, "probabilities"))
    except CalibrationError as error:
        raise CalibrationError(f"tiers.{tier.value}: {error}") from None


def _numbers(entry: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = entry.get(name)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise CalibrationError(f"{name} must be a list of numbers")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise CalibrationError(f"{name} must be a list of numbers")
    try:
        numbers = tuple(float(value) for value in values)
    except OverflowError:  # a whole number of hundreds of digits
        numbers = (math.inf,)
    if not all(math.isfinite(number) for number in numbers):
        raise CalibrationError(f"{name} must be finite")
    return numbers


def _must_rise(name: str, values: Sequence[float]) -> None:
    for place, (before, after) in enumerate(pairwise(values)):
        if not before < after:
            raise CalibrationError(f"{name} must rise strictly, but number {place + 2} does not")
