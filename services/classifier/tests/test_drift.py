import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.drift import DriftReferenceError, Histogram, Reference, Window, stability_index

REFERENCE = Reference(
    complexity=Histogram((0.25, 0.5), (0.5, 0.3, 0.2)),
    familiarity=Histogram((0.5,), (0.1, 0.9)),
    tasks={Task.CHAT: 0.5, Task.CODE: 0.5},
)


def window(size: int = 100, min_prompts: int = 10) -> Window:
    return Window(REFERENCE, size=size, min_prompts=min_prompts, limit=0.25)


def fill_as_trained(made: Window) -> None:
    for number in range(10):
        complexity = 0.1 if number < 5 else 0.3 if number < 8 else 0.9
        made.add(complexity, 0.2 if number == 0 else 0.8, Task.CHAT if number % 2 else Task.CODE)


def test_the_index_is_the_sum_of_shifts_weighted_by_their_logarithm() -> None:
    assert stability_index([0.5, 0.5], [75, 25]) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))


def test_prompts_like_those_of_the_training_do_not_drift() -> None:
    made = window()
    fill_as_trained(made)
    drift = made.measure()
    assert drift.prompts == 10
    assert (drift.complexity_index, drift.familiarity_index, drift.task_index) == pytest.approx((0, 0, 0), abs=1e-9)
    assert not drift.drifted


def test_other_prompts_drift_once_there_are_enough_of_them() -> None:
    made = window(min_prompts=10)
    for _ in range(9):
        made.add(0.9, 0.1, Task.MATHS)
    assert made.measure().complexity_index > 0.25
    assert not made.measure().drifted
    made.add(0.9, 0.1, Task.MATHS)
    assert made.measure().drifted


def test_the_window_forgets() -> None:
    made = window(size=10)
    for _ in range(50):
        made.add(0.9, 0.1, Task.UNSPECIFIED)
    fill_as_trained(made)
    assert made.measure().prompts == 10
    assert made.measure().complexity_index == pytest.approx(0.0, abs=1e-9)


def test_an_empty_window_says_nothing() -> None:
    assert window().measure().complexity_index == 0.0


def test_edges_belong_to_the_bin_above() -> None:
    assert [REFERENCE.complexity.bin_of(value) for value in (0.0, 0.25, 0.4, 0.5, 1.0)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("edges", "shares"), [((0.5,), (1.0,)), ((0.5, 0.5), (0.2, 0.3, 0.5)), ((0.5,), (0.5, 0.6)), ((0.5,), (-0.5, 1.5))]
)
def test_what_is_no_histogram_is_refused(edges: tuple[float, ...], shares: tuple[float, ...]) -> None:
    with pytest.raises(DriftReferenceError):
        Histogram(edges, shares)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(Task)), max_size=60))
def test_indices_are_never_negative_and_always_finite(rows: list[tuple[float, float, Task]]) -> None:
    made = window(size=20)
    for row in rows:
        made.add(*row)
    drift = made.measure()
    assert drift.prompts == min(20, len(rows))
    for index in (drift.complexity_index, drift.familiarity_index, drift.task_index):
        assert 0.0 <= index < math.inf
