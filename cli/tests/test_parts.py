"""Start order and restart limits."""

import pytest

from farthing_cli.up.parts import RestartLimit, start_order


def test_a_part_comes_after_what_it_needs() -> None:
    needs = {"gateway": ("cache", "scheduler"), "scheduler": ("nats",), "cache": ("redis",), "nats": (), "redis": ()}
    order = start_order(needs)
    assert all(order.index(need) < order.index(part) for part in needs for need in needs[part])


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match="a, b"):
        start_order({"a": ("b",), "b": ("a",), "c": ()})


def test_waits_grow_with_each_death_up_to_the_longest() -> None:
    limit = RestartLimit(deaths=5, within_s=60, first_wait_s=0.25, longest_wait_s=1)
    waits = [limit.wait_s([float(n) for n in range(deaths)], 10) for deaths in range(1, 6)]
    assert waits == [0.25, 0.5, 1, 1, 1]


def test_a_part_that_dies_too_often_is_given_up() -> None:
    limit = RestartLimit(deaths=3, within_s=60)
    assert limit.wait_s([1, 2, 3, 4], 5) is None


def test_deaths_of_long_ago_are_forgiven() -> None:
    limit = RestartLimit(deaths=3, within_s=60)
    assert limit.wait_s([1, 2, 3, 100], 100) == limit.first_wait_s
