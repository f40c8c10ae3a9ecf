from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import calibration
from farthing_classifier.domain.calibration import Calibration, CalibrationError, Curve, parse, rising
from farthing_classifier.domain.tiers import TIERS, Tier

share = st.floats(0.0, 1.0)


def file(**changed: Any) -> dict[str, Any]:
    curve = {"scores": [-2.0, 0.0, 3.0], "probabilities": [0.1, 0.5, 0.9]}
    return {"version": "2026-11", "heads": "heads-v2", "tiers": {tier.value: dict(curve) for tier in TIERS}} | changed


def with_small(**changed: Any) -> dict[str, Any]:
    content = file()
    content["tiers"]["small"] |= changed
    return content


@pytest.mark.parametrize(
    ("score", "probability"), [(-9.0, 0.1), (-2.0, 0.1), (-1.0, 0.3), (0.0, 0.5), (1.5, 0.7), (3.0, 0.9), (9.0, 0.9)]
)
def test_a_curve_is_linear_between_its_knots_and_flat_outside(score: float, probability: float) -> None:
    assert parse(file()).curves[Tier.SMALL].probability(score) == pytest.approx(probability)


def test_what_is_written_is_what_is_read() -> None:
    made = parse(file())
    assert parse(calibration.content(made)) == made


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({}, "version must be"),
        (file(version="a b"), "version must be"),
        (file(heads=""), "heads must name"),
        (file(tiers={}), "tiers must hold exactly small, medium, large"),
        (file(tiers={"small": {}, "medium": {}, "large": {}, "huge": {}}), "tiers must hold exactly"),
        (with_small(scores="012"), "tiers.small: scores must be a list of numbers"),
        (with_small(scores=[1, True, 3]), "scores must be a list of numbers"),
        (with_small(scores=[-2.0, 0.0]), "differ in number"),
        (with_small(scores=[0.0], probabilities=[0.5]), "needs 2 to 512 knots, has 1"),
        (with_small(scores=[0.0, 0.0, 1.0]), "scores must rise strictly, but number 2 does not"),
        (with_small(probabilities=[0.1, 0.5, 0.4]), "probabilities must rise strictly, but number 3 does not"),
        (with_small(probabilities=[0.1, 0.5, 1.4]), "within 0 and 1"),
        (with_small(scores=[0.0, 1.0, float("nan")]), "scores must be finite"),
        (with_small(scores=[0, 1, 10**400]), "scores must be finite"),
        (file(tiers=dict.fromkeys(("small", "medium", "large"), 3)), "tiers.small must hold scores and probabilities"),
    ],
)
def test_what_is_no_calibration_is_refused_in_one_line(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CalibrationError, match=complaint) as info:
        parse(content)
    assert "\n" not in str(info.value)


def test_a_calibration_of_other_heads_is_refused() -> None:
    parse(file()).must_belong_to("heads-v2")
    with pytest.raises(CalibrationError, match="belongs to the heads heads-v2, but heads-v3 is loaded"):
        parse(file()).must_belong_to("heads-v3")


def test_success_never_falls_from_one_tier_to_the_next() -> None:
    steep = Curve((-1.0, 1.0), (0.0, 1.0))
    made = Calibration("v", "h", dict.fromkeys(TIERS, steep))
    assert made.successes([1.0, 0.0, 0.5]) == pytest.approx((0.75, 0.75, 0.75))
    assert made.successes([-0.5, 0.5, 0.8]) == pytest.approx((0.25, 0.75, 0.9))


@given(st.lists(share, min_size=1, max_size=6))
def test_rising_never_falls_and_keeps_the_mean(values: list[float]) -> None:
    result = rising(values)
    assert all(before <= after + 1e-12 for before, after in pairwise(result))
    assert sum(result) == pytest.approx(sum(values))


@given(st.lists(share, min_size=1, max_size=6))
def test_what_rises_already_stays_as_it_is(values: list[float]) -> None:
    assert rising(sorted(values)) == tuple(sorted(values))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_higher_score_is_never_less_probable(one: float, other: float) -> None:
    curve = parse(file()).curves[Tier.LARGE]
    low, high = sorted((one, other))
    assert curve.probability(low) <= curve.probability(high) + 1e-12
