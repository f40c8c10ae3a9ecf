"""A calibration fitted on traffic moves as far as outcomes say, and never hides that it got worse."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from farthing_classifier.domain.calibration import Calibration, Curve, parse
from farthing_classifier.domain.tiers import TIERS, Tier
from farthing_models.recalibration import Observation, file_content, is_held_out, recalibrate

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCORES = (-3.0, -1.0, 0.0, 1.0, 3.0)
CURVE = Curve(SCORES, (0.05, 0.27, 0.5, 0.73, 0.95))
PRESENT = Calibration("shipped", "heads-v2", dict.fromkeys(TIERS, CURVE))
MODEL = "heads-v2+0123456789ab"


def observed(number: int, score: float, acceptable: bool, **changes: object) -> Observation:
    return replace(Observation(f"q_{number}", Tier.SMALL, score, acceptable, MODEL), **changes)  # type: ignore[arg-type]


def traffic(count: int, truth: Curve, seed: int = 1, tier: Tier = Tier.SMALL) -> list[Observation]:
    """Outcomes whose probabilities are those of `truth`."""
    draw = random.Random(seed)
    scores = [draw.uniform(-3, 3) for _ in range(count)]
    return [
        observed(number, score, draw.random() < truth.probability(score), tier=tier)
        for number, score in enumerate(scores)
    ]


def test_a_calibration_that_promised_too_much_is_brought_down() -> None:
    truth = Curve(SCORES, (0.01, 0.08, 0.2, 0.42, 0.8))
    made = recalibrate(PRESENT, traffic(2000, truth), NOW)
    result = next(each for each in made.tiers if each.tier is Tier.SMALL)
    assert result.before is not None
    assert result.after is not None
    assert (result.outcomes, result.fitted + result.held_out) == (2000, 2000)
    assert result.after.brier < result.before.brier
    assert result.after.log_loss < result.before.log_loss
    assert result.after.ece < result.before.ece
    assert not made.worse
    new = made.calibration.curves[Tier.SMALL]
    assert all(abs(new.probability(score) - truth.probability(score)) < 0.08 for score in SCORES)


def test_a_map_of_two_knots_learns_to_bend() -> None:
    line = Curve((-4.0, 4.0), (0.1, 0.9))
    present = Calibration("shipped", "heads-v2", dict.fromkeys(TIERS, line))
    rows = [observed(number, 0.0, number % 5 == 0) for number in range(1000)]
    made = recalibrate(present, rows, NOW)
    assert abs(made.calibration.curves[Tier.SMALL].probability(0.0) - 0.2) < 0.03
    again = recalibrate(made.calibration, rows, NOW)
    assert len(again.calibration.curves[Tier.SMALL].scores) == len(made.calibration.curves[Tier.SMALL].scores)


def test_what_was_right_stays_nearly_as_it_was() -> None:
    made = recalibrate(PRESENT, traffic(2000, CURVE), NOW)
    new = made.calibration.curves[Tier.SMALL]
    assert all(abs(new.probability(score) - CURVE.probability(score)) < 0.06 for score in SCORES)


def test_a_tier_with_few_outcomes_keeps_its_map_and_says_so() -> None:
    made = recalibrate(PRESENT, [*traffic(49, CURVE), *traffic(60, CURVE, tier=Tier.MEDIUM)][:49], NOW)
    assert made.calibration.curves[Tier.SMALL] is CURVE
    assert [each.kept for each in made.tiers] == [
        "49 outcomes are fewer than 50",
        "0 outcomes are fewer than 50",
        "0 outcomes are fewer than 50",
    ]
    assert not made.changed
    assert not made.worse


def test_few_outcomes_move_it_less_than_many() -> None:
    truth = Curve(SCORES, (0.01, 0.05, 0.1, 0.2, 0.4))
    few, many = (recalibrate(PRESENT, traffic(count, truth), NOW, min_outcomes=20) for count in (30, 3000))
    at = 1.0
    assert many.calibration.curves[Tier.SMALL].probability(at) < few.calibration.curves[Tier.SMALL].probability(at)
    assert few.calibration.curves[Tier.SMALL].probability(at) < CURVE.probability(at)


def test_a_fit_that_the_held_out_part_contradicts_is_called_worse_in_the_file_too() -> None:
    rows = [observed(number, 1.0, not is_held_out(f"q_{number}")) for number in range(200)]
    made = recalibrate(PRESENT, rows, NOW)
    assert made.worse
    written = file_content(made, NOW)["recalibration"]
    assert written["worse_on_held_out"] is True
    assert {"brier", "log_loss"} <= set(written["tiers"]["small"]["worse"])


def test_only_what_these_heads_foretold_counts_and_the_rest_is_counted() -> None:
    rows = [
        *traffic(100, CURVE),
        *(observed(1000 + n, 0.0, True, model_version="heads-v1+0123456789ab") for n in range(7)),
        *(observed(2000 + n, 0.0, True, cascade=True) for n in range(5)),
    ]
    made = recalibrate(PRESENT, rows, NOW)
    assert made.tiers[0].outcomes == 100
    assert made.left_out == {"of other models": 7, "of cascades": 5}


def test_the_last_word_on_a_request_counts_and_the_order_of_others_does_not() -> None:
    rows = traffic(300, CURVE)
    first = [replace(row, acceptable=not row.acceptable) for row in rows]
    assert recalibrate(PRESENT, [*first, *rows], NOW) == recalibrate(PRESENT, rows[::-1], NOW)


def test_the_file_is_what_the_classifier_takes_and_names_its_origin() -> None:
    made = recalibrate(PRESENT, traffic(500, Curve(SCORES, (0.01, 0.08, 0.2, 0.42, 0.8))), NOW)
    written = file_content(made, NOW)
    assert parse(written) == made.calibration
    assert made.calibration.version != PRESENT.version
    assert made.calibration.heads == PRESENT.heads
    assert written["recalibration"]["from"] == "shipped"
    again = recalibrate(made.calibration, traffic(500, CURVE), NOW)
    assert again.calibration.version not in {"shipped", made.calibration.version}


def test_what_says_the_opposite_of_what_happened_becomes_nearly_flat_and_still_rises() -> None:
    falling = [observed(n, -3.0 + 6.0 * (n % 100) / 100, n % 100 < 50) for n in range(1000)]
    made = recalibrate(PRESENT, falling, NOW)
    new = made.calibration.curves[Tier.SMALL]
    assert 0.0 < new.probabilities[-1] - new.probabilities[0] < 0.2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=50, max_size=120),
    st.lists(st.floats(0, 1), min_size=2, max_size=40, unique=True),
)
def test_every_calibration_rises_and_can_be_read(rows: list[tuple[float, bool]], probabilities: list[float]) -> None:
    scores = tuple(float(n * n) for n in range(len(probabilities)))
    curve = Curve(scores, tuple(sorted(probabilities)))
    present = Calibration("shipped", "heads-v2", dict.fromkeys(TIERS, curve))
    made = recalibrate(present, [observed(n, *row) for n, row in enumerate(rows)], NOW)
    assert parse(file_content(made, NOW)) == made.calibration
