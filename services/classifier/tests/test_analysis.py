import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain.analysis import (
    Flags,
    Limits,
    Task,
    chosen_task,
    ranked,
    uncertainty,
    with_familiarity,
)

share = st.floats(0.0, 1.0)


def test_the_most_probable_task_is_chosen() -> None:
    assert chosen_task({Task.CODE: 0.7, Task.CHAT: 0.3}) is Task.CODE


@pytest.mark.parametrize("tasks", [{}, {Task.CODE: 0.2, Task.CHAT: 0.15}])
def test_without_a_signal_no_task_is_named(tasks: dict[Task, float]) -> None:
    assert chosen_task(tasks) is Task.UNSPECIFIED


def test_tasks_are_ranked_and_ties_are_broken_by_name() -> None:
    assert [task for task, _ in ranked({Task.MATHS: 0.1, Task.CODE: 0.8, Task.CHAT: 0.1})] == [
        Task.CODE,
        Task.CHAT,
        Task.MATHS,
    ]


def test_an_even_chance_is_a_guess() -> None:
    assert uncertainty(0.5, 1.0, Flags.NONE) == 1.0


def test_a_decided_probability_on_familiar_ground_is_certain() -> None:
    assert uncertainty(0.0, 1.0, Flags.NONE) == 0.0


def test_a_decided_probability_on_unknown_ground_is_a_guess() -> None:
    assert uncertainty(0.01, 0.0, Flags.NONE) == 1.0


@given(share, share)
def test_flags_only_ever_add_uncertainty(complexity: float, familiarity: float) -> None:
    plain = uncertainty(complexity, familiarity, Flags.NONE)
    assert 0.0 <= plain <= 1.0
    for flag in Flags:
        assert plain <= uncertainty(complexity, familiarity, flag) <= 1.0


LIMITS = Limits(doubt=0.5, out_of_domain=0.2, no_signal=0.05)


@pytest.mark.parametrize(
    ("familiarity", "before", "after"),
    [
        (0.9, Flags.NONE, Flags.NONE),
        (0.1, Flags.TRUNCATED, Flags.TRUNCATED | Flags.OUT_OF_DOMAIN),
        (0.01, Flags.NONE, Flags.OUT_OF_DOMAIN | Flags.NO_SIGNAL),
    ],
)
def test_the_less_familiar_a_prompt_is_the_less_it_says(familiarity: float, before: Flags, after: Flags) -> None:
    assert with_familiarity(before, familiarity, LIMITS) == after


def test_without_a_signal_everything_is_a_guess() -> None:
    assert uncertainty(0.0, 1.0, Flags.NO_SIGNAL) == 1.0
