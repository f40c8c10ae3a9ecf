import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_models import fitting, forest, metrics
from farthing_models.bags import Bags

RNG = np.random.default_rng(5)
INPUTS = RNG.normal(size=(1200, 6))
TRUE_LOGITS = 1.5 * INPUTS[:, 0] - INPUTS[:, 1]
LABELS = (RNG.random(1200) < fitting.sigmoid(TRUE_LOGITS)).astype(float)
ONES = np.ones(1200)


def test_ridge_finds_the_weights_of_each_column() -> None:
    values = np.column_stack([2.0 * INPUTS[:, 0] + 1.0, -INPUTS[:, 2]])
    linear = fitting.ridge(INPUTS, values, ONES, penalty=1e-6)
    np.testing.assert_allclose(linear(INPUTS), values, atol=1e-5)


def test_a_sparse_ridge_agrees_with_the_closed_form() -> None:
    bags = Bags.of([sorted(set(RNG.integers(1, 9, 4).tolist())) for _ in range(60)])
    values, weight = RNG.normal(size=(60, 2)), np.ones(60)
    found = fitting.sparse_ridge(bags.matrix, values, weight, 2.0, steps=60)
    dense = bags.matrix.toarray()[:, :10]
    expected = np.linalg.solve(dense.T @ dense + 2.0 * np.eye(10), dense.T @ values)
    np.testing.assert_allclose(found[:10], expected, atol=1e-6)


def test_trees_find_a_step_and_are_the_same_each_time() -> None:
    values = np.where(INPUTS[:, 0] > 0.5, 1.0, -1.0)
    first, second = (forest.fit(INPUTS, values, ONES, seed=3, trees=40) for _ in range(2))
    np.testing.assert_array_equal(first(INPUTS), second(INPUTS))
    assert np.corrcoef(first(INPUTS), values)[0, 1] > 0.95


def test_calibration_undoes_a_slope_and_a_shift() -> None:
    slope, shift = fitting.calibration(TRUE_LOGITS * 3.0 + 1.0, LABELS)
    assert slope == pytest.approx(1 / 3, abs=0.07)
    assert shift == pytest.approx(-1 / 3, abs=0.2)


def test_softmax_regression_separates_classes() -> None:
    labels = (INPUTS[:, 0] > 0).astype(np.int64) + (INPUTS[:, 1] > 1).astype(np.int64)
    linear = fitting.softmax_regression(INPUTS, labels, ONES, 3, decay=1e-5)
    assert (linear(INPUTS).argmax(axis=1) == labels).mean() > 0.8


def test_softmax_regression_reads_bags_too() -> None:
    labels = np.arange(80) % 2
    bags = Bags.of([[1 + int(label), 5] for label in labels])
    table, linear = fitting.bag_softmax_regression(bags.folded(16), np.zeros((80, 1)), labels, np.ones(80), 2)
    logits = bags.folded(16) @ table + linear(np.zeros((80, 1)))
    assert (logits.argmax(axis=1) == labels).all()


def test_quantile_regression_leaves_the_right_share_below() -> None:
    values = 2.0 * INPUTS[:, 0] + RNG.normal(size=1200)
    predicted = fitting.quantile_regression(INPUTS, values, (0.5, 0.9), decay=1e-4)(INPUTS)
    assert (values <= predicted[:, 0]).mean() == pytest.approx(0.5, abs=0.03)
    assert (values <= predicted[:, 1]).mean() == pytest.approx(0.9, abs=0.03)


def test_centroids_are_unit_vectors_near_the_data() -> None:
    groups = np.eye(6)[RNG.integers(0, 3, 300)] + RNG.normal(scale=0.05, size=(300, 6))
    embeddings = groups / np.linalg.norm(groups, axis=1, keepdims=True)
    centres = fitting.centroids(embeddings, 3, seed=1)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0, atol=1e-9)
    assert (embeddings @ centres.T).max(axis=1).mean() > 0.7


def test_auc_of_a_perfect_a_useless_and_an_inverse_score() -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert metrics.auc(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1.0
    assert metrics.auc(np.zeros(4), labels) == 0.5
    assert metrics.auc(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 0.0
    assert math.isnan(metrics.auc(np.zeros(4), np.zeros(4)))


def test_apgr_is_highest_when_each_strong_call_pays() -> None:
    weak, strong = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])
    assert metrics.apgr(np.array([0.0, 0.0, 1.0, 1.0]), weak, strong) == pytest.approx(0.75)
    assert metrics.apgr(np.array([1.0, 1.0, 0.0, 0.0]), weak, strong) == pytest.approx(0.25)


def test_strong_calls_needed_for_a_share_of_quality() -> None:
    weak, strong = np.array([1.0, 0.0, 0.0, 0.0]), np.ones(4)
    assert metrics.strong_calls_for(0.75, np.array([0.0, 3.0, 2.0, 1.0]), weak, strong) == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=20, max_size=60))
def test_ece_is_a_share(rows: list[tuple[float, bool]]) -> None:
    probabilities, labels = (np.asarray(column, dtype=float) for column in zip(*rows, strict=True))
    assert 0.0 <= metrics.ece(probabilities, labels) <= 1.0
