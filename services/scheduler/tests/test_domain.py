"""The rules of the queue, without a queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_kit.usage import TokenUsage
from farthing_scheduler.domain.admission import Verdict as Admission
from farthing_scheduler.domain.admission import admit
from farthing_scheduler.domain.job import Chunk, Reply
from farthing_scheduler.domain.order import ReplyOrder, Verdict
from farthing_scheduler.domain.slots import Slots
from farthing_scheduler.domain.subjects import is_request_id, job_subject, last_token, model_of, model_token
from farthing_scheduler.domain.tally import Tally
from farthing_scheduler.domain.tombstones import Tombstones

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def text(attempt: int, sequence: int) -> Reply:
    """A reply with a word in it."""
    return Reply(attempt, sequence, chunk=Chunk("word", sequence, 7))


def life(attempt: int, sequence: int) -> Reply:
    """A reply with nothing in it."""
    return Reply(attempt, sequence)


# ------------------------------------------------------------------------------------------------------------- order


def test_replies_go_on_in_their_order() -> None:
    order = ReplyOrder()

    assert [order.accept(text(1, number)) for number in (1, 2, 3)] == [Verdict.FORWARD] * 3


def test_a_gap_is_the_end() -> None:
    order = ReplyOrder()
    order.accept(text(1, 1))

    assert order.accept(text(1, 3)) is Verdict.LOST


def test_a_reply_that_comes_twice_goes_on_once() -> None:
    order = ReplyOrder()
    order.accept(text(1, 1))

    assert order.accept(text(1, 1)) is Verdict.IGNORE


def test_a_sign_of_life_shows_that_the_last_reply_was_lost() -> None:
    order = ReplyOrder()
    order.accept(text(1, 1))

    assert order.accept(life(1, 1)) is Verdict.IGNORE
    assert order.accept(life(1, 2)) is Verdict.LOST


def test_a_later_attempt_goes_on_while_the_caller_has_no_text() -> None:
    order = ReplyOrder()
    order.accept(Reply(1, 1))

    assert order.accept(text(2, 1)) is Verdict.FORWARD
    assert order.accept(text(1, 2)) is Verdict.IGNORE


def test_a_later_attempt_is_the_end_once_the_caller_has_text() -> None:
    order = ReplyOrder()
    order.accept(text(1, 1))

    assert not order.begin(2)
    assert order.accept(text(2, 1)) is Verdict.LOST


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=40))
def test_whatever_arrives_the_caller_reads_one_attempt_from_its_beginning(arrivals: list[tuple[int, int]]) -> None:
    order, read = ReplyOrder(), []
    for attempt, sequence in arrivals:
        verdict = order.accept(text(attempt, sequence))
        if verdict is Verdict.LOST:
            break
        if verdict is Verdict.FORWARD:
            read.append((attempt, sequence))

    assert [sequence for _, sequence in read] == list(range(1, len(read) + 1))
    assert len({attempt for attempt, _ in read}) <= 1


# --------------------------------------------------------------------------------------------------------- admission


@pytest.mark.parametrize(
    ("attempt", "left_s", "cancelled", "verdict"),
    [
        (1, 1, False, Admission.RUN),
        (2, 1, False, Admission.ASK),
        (3, 1, False, Admission.EXHAUSTED),
        (1, 0, False, Admission.EXPIRED),
        (3, -1, False, Admission.EXPIRED),
        (1, 1, True, Admission.CANCELLED),
        (3, -1, True, Admission.CANCELLED),
    ],
)
def test_a_job_runs_in_time_and_not_too_often(attempt: int, left_s: int, cancelled: bool, verdict: Admission) -> None:
    deadline = NOW + timedelta(seconds=left_s)

    assert admit(attempt=attempt, max_attempts=2, deadline=deadline, now=NOW, cancelled=cancelled) is verdict


# -------------------------------------------------------------------------------------------------------- tombstones


def test_a_cancelled_job_is_known_once() -> None:
    stones = Tombstones(limit=10, lifetime_s=60)
    stones.add("q_1", 0.0)

    assert stones.take("q_1", 1.0)
    assert not stones.take("q_1", 1.0)
    assert not stones.take("q_2", 1.0)


def test_a_cancelled_job_is_forgotten_after_its_time() -> None:
    stones = Tombstones(limit=10, lifetime_s=60)
    stones.add("q_1", 0.0)
    stones.add("q_2", 61.0)

    assert len(stones) == 1
    assert not stones.take("q_1", 61.0)
    assert stones.take("q_2", 61.0)


def test_the_oldest_cancelled_job_is_forgotten_when_there_are_too_many() -> None:
    stones = Tombstones(limit=2, lifetime_s=60)
    for number in range(3):
        stones.add(f"q_{number}", 0.0)

    assert [stones.take(f"q_{number}", 1.0) for number in range(3)] == [False, True, True]


# ------------------------------------------------------------------------------------------------------------- slots


@given(st.lists(st.sampled_from(["ask", "fill", "release", "expire", "forget"]), max_size=60), st.integers(1, 8))
def test_never_more_jobs_are_asked_for_than_can_begin(steps: list[str], limit: int) -> None:
    slots = Slots(limit)
    for step in steps:
        if step == "ask":
            slots.ask()
        elif step == "fill" and slots.asked:
            slots.fill()
        elif step == "release" and slots.busy:
            slots.release()
        elif step == "expire" and slots.asked:
            slots.give_back(1)
        elif step == "forget":
            slots.forget()
        assert 0 <= slots.asked + slots.busy <= limit
        assert slots.free == limit - slots.asked - slots.busy


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8))
def test_a_worker_that_could_begin_a_job_has_asked_for_one(fills: list[bool], limit: int) -> None:
    slots = Slots(limit)
    slots.ask()
    for fill in fills:
        if fill and slots.asked:
            slots.fill()
        elif slots.busy:
            slots.release()
        slots.ask()
        assert slots.asked > 0 or slots.busy == limit


def test_not_each_job_costs_a_request() -> None:
    slots = Slots(32)
    requests = [slots.ask()]
    for _ in range(1000):
        slots.fill()
        slots.release()
        requests.append(slots.ask())

    assert sum(count > 0 for count in requests) < 100


# ---------------------------------------------------------------------------------------------------------- subjects


@given(st.text(min_size=1, max_size=40))
def test_every_model_has_a_subject_of_its_own(model: str) -> None:
    model = model.encode("utf-8", "ignore").decode() or "m"
    token = model_token(model)

    assert model_of(token) == model
    assert not set(token) & set(" .*>/\\\t\r\n")
    assert last_token(job_subject(model)) == token


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "a" * 129, "ä"])
def test_what_is_no_token_is_no_request_id(text: str) -> None:
    assert not is_request_id(text)


# ------------------------------------------------------------------------------------------------------------- tally


def test_what_was_generated_so_far_is_known() -> None:
    tally = Tally()
    tally.add(Chunk("one", 1, 7))
    tally.add(Chunk("two", 2, 0))

    assert tally.usage == TokenUsage(fresh_input=7, output=2)
