"""Which server a generation goes to, and what takes a server out of the choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_inference.domain.errors import ModelFull, ModelUnavailable, PoolNotFound, UnknownModel
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import Placement, PoolState, ServerAddress
from services.inference.tests.builders import A, B, C, fleet, model, pool


def fill(made: Fleet, count: int, name: str = "echo") -> list[ServerAddress]:
    """Place generations one after the other, none of which ends."""
    servers = []
    for _ in range(count):
        placement = made.choose(name)
        made.begin(placement)
        servers.append(placement.server)
    return servers


def test_of_idle_pools_the_cheapest_is_chosen() -> None:
    made = fleet(pool("dear", A, usd=4), pool("cheap", B, usd=1))
    assert made.choose("echo").pool.name == "cheap"


def test_a_large_server_is_cheaper_when_its_places_are() -> None:
    made = fleet(pool("small", A, usd=1, max_in_flight=4), pool("large", B, usd=4, max_in_flight=64))
    assert made.choose("echo").pool.name == "large"


def test_of_equal_pools_the_first_in_the_file_is_chosen() -> None:
    assert fleet(pool("x", A), pool("y", B)).choose("echo").pool.name == "x"


def test_the_cheap_pool_fills_to_a_step_then_the_other_follows() -> None:
    made = fleet(pool("cheap", A, usd=1), pool("dear", B, usd=4))
    assert fill(made, 8) == [A, A, B, B, A, A, B, B]


def test_inside_a_pool_generations_spread_evenly() -> None:
    made = fleet(pool("p", A, B, C))
    assert sorted(fill(made, 6)) == [A, A, B, B, C, C]


def test_idle_servers_take_turns() -> None:
    made = fleet(pool("p", A, B))
    first = made.choose("echo")
    made.begin(first)
    made.end(first)
    assert made.choose("echo").server != first.server


def test_a_model_that_no_pool_serves_is_unknown() -> None:
    with pytest.raises(UnknownModel) as caught:
        fleet(pool()).choose("large-v9")
    assert caught.value.metadata == {"model": "large-v9"}


def test_full_pools_are_overload_with_numbers_and_a_time_to_come_back() -> None:
    made = fleet(pool("p", A, B, max_in_flight=1))
    fill(made, 2)
    with pytest.raises(ModelFull) as caught:
        made.choose("echo")
    assert caught.value.metadata == {"model": "echo", "in_flight": "2", "limit": "2"}
    assert caught.value.retry_after_s is not None


def test_a_place_that_is_given_back_can_be_taken_again() -> None:
    made = fleet(pool("p", A, max_in_flight=1))
    placement = made.choose("echo")
    made.begin(placement)
    made.end(placement)
    assert made.choose("echo").server == A


def test_a_server_is_not_used_before_its_first_check() -> None:
    made = Fleet((pool("p", A),))
    assert made.status("p").state is PoolState.UNREACHABLE
    with pytest.raises(ModelUnavailable) as caught:
        made.choose("echo")
    assert caught.value.retry_after_s is not None


def test_a_refused_connection_takes_a_server_out_at_once() -> None:
    made = fleet(pool("p", A, B))
    made.refused(A)
    assert set(fill(made, 3)) == {B}


def test_only_several_failed_checks_in_a_row_take_a_server_out() -> None:
    made = fleet(pool("p", A))
    made.failed(A)
    made.failed(A)
    made.answered(A, frozenset({"echo"}))
    made.failed(A)
    made.failed(A)
    assert made.status("p").state is PoolState.ACTIVE
    made.failed(A)
    assert made.status("p").state is PoolState.UNREACHABLE


def test_one_answer_brings_a_server_back() -> None:
    made = fleet(pool("p", A))
    made.refused(A)
    made.answered(A, frozenset({"echo"}))
    assert made.choose("echo").server == A


def test_failures_do_not_bring_a_server_back() -> None:
    made = Fleet((pool("p", A),))
    made.failed(A)
    assert made.status("p").state is PoolState.UNREACHABLE


def test_a_server_is_only_used_for_models_that_are_ready_there() -> None:
    spec = pool("p", A, B, models=(model("echo"), model("small")))
    made = fleet(spec)
    made.answered(A, frozenset({"echo"}))
    assert set(fill(made, 3, "small")) == {B}
    assert made.status("p").state is PoolState.ACTIVE


def test_a_lost_model_is_avoided_until_a_check_finds_it_again() -> None:
    made = fleet(pool("p", A))
    made.lost_model(made.choose("echo"))
    with pytest.raises(ModelUnavailable):
        made.choose("echo")
    made.answered(A, frozenset({"echo"}))
    assert made.choose("echo").server == A


def test_a_draining_pool_gets_no_more_work_and_keeps_what_it_has() -> None:
    made = fleet(pool("x", A), pool("y", B, usd=9))
    placement = made.choose("echo")
    made.begin(placement)
    status = made.set_draining("x", True)
    assert (status.state, status.in_flight) == (PoolState.DRAINING, 1)
    assert made.choose("echo").pool.name == "y"
    made.end(placement)
    assert made.set_draining("x", False).state is PoolState.ACTIVE
    assert made.choose("echo").pool.name == "x"


def test_all_pools_draining_is_unavailable_not_unknown() -> None:
    made = fleet(pool("x", A))
    made.set_draining("x", True)
    with pytest.raises(ModelUnavailable):
        made.choose("echo")


def test_an_unknown_pool_cannot_be_drained() -> None:
    with pytest.raises(PoolNotFound) as caught:
        fleet(pool()).set_draining("nowhere", True)
    assert caught.value.metadata == {"kind": "pool", "id": "nowhere"}


def test_servers_that_were_tried_are_avoided() -> None:
    made = fleet(pool("p", A, B))
    assert made.choose("echo", avoid={A}).server == B
    with pytest.raises(ModelUnavailable):
        made.choose("echo", avoid={A, B})


def test_pools_are_listed_in_the_order_of_the_file() -> None:
    made = fleet(pool("z", A), pool("a", B))
    assert [status.spec.name for status in made.pools()] == ["z", "a"]


@given(st.lists(st.booleans(), max_size=60))
def test_counts_match_what_began_and_did_not_end(steps: list[bool]) -> None:
    made = fleet(pool("x", A, B, max_in_flight=3), pool("y", C, max_in_flight=5))
    running: list[Placement] = []
    for begins in steps:
        if begins and len(running) < 11:
            placement = made.choose("echo")
            made.begin(placement)
            running.append(placement)
        elif not begins and running:
            made.end(running.pop(0))
    statuses = made.pools()
    assert sum(status.in_flight for status in statuses) == len(running)
    assert all(status.in_flight <= status.spec.max_in_flight * len(status.spec.servers) for status in statuses)


def test_a_status_names_the_models_that_a_healthy_server_has_loaded() -> None:
    made = fleet(pool("p", A, B, models=(model("echo"), model("small"))))
    made.answered(A, frozenset({"echo"}))
    made.answered(B, frozenset())
    assert made.status("p").ready_models == {"echo"}
