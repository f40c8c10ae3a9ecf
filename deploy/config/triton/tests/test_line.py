"""The line of one model's requests: slots, waiting, and the end."""

import threading
from collections.abc import Iterator

import pytest

from farthing_triton.line import FULL, STOPPING, Line

WITHIN_S = 5.0


class FakeJob:
    """A job that runs until it is told to end, and remembers what became of it."""

    def __init__(self) -> None:
        self.cancelled = False
        self.outcome = ""
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        self.begun.set()
        self.may_end.wait(WITHIN_S)
        self._end("answered")

    def abandon(self) -> None:
        self._end("abandoned")

    def refuse(self, why: str) -> None:
        self._end(why)

    def _end(self, outcome: str) -> None:
        self.outcome = outcome
        self.ended.set()


@pytest.fixture
def running() -> FakeJob:
    return FakeJob()


@pytest.fixture
def line(running: FakeJob) -> Iterator[Line]:
    """One slot, which `running` has, and room for two more."""
    line = Line("test", slots=1, queue=2)
    line.add(running)
    assert running.begun.wait(WITHIN_S)
    yield line
    running.may_end.set()


def added(line: Line, count: int) -> list[FakeJob]:
    jobs = [FakeJob() for _ in range(count)]
    for job in jobs:
        line.add(job)
    return jobs


def test_more_than_slots_and_queue_hold_is_refused(line: Line) -> None:
    jobs = added(line, 3)
    assert [job.outcome for job in jobs] == ["", "", FULL]


def test_what_waits_runs_in_order_when_a_slot_is_free(line: Line, running: FakeJob) -> None:
    first, second = added(line, 2)
    running.may_end.set()
    assert first.begun.wait(WITHIN_S)
    assert not second.begun.is_set()
    first.may_end.set()
    assert second.begun.wait(WITHIN_S)


def test_a_caller_who_went_away_is_not_run(line: Line, running: FakeJob) -> None:
    (gone,) = added(line, 1)
    gone.cancelled = True
    running.may_end.set()
    assert gone.ended.wait(WITHIN_S)
    assert (gone.outcome, gone.begun.is_set()) == ("abandoned", False)


def test_callers_who_went_away_do_not_keep_others_out(line: Line) -> None:
    gone, stays = added(line, 2)
    gone.cancelled = True
    (next_one,) = added(line, 1)
    assert (gone.outcome, stays.outcome, next_one.outcome) == ("abandoned", "", "")


def test_what_is_dropped_while_it_waits_is_over_at_once_and_what_runs_goes_on(line: Line, running: FakeJob) -> None:
    (waiting,) = added(line, 1)
    line.drop(waiting)
    line.drop(running)
    assert (waiting.outcome, running.outcome) == ("abandoned", "")


def test_stopping_refuses_what_waits_and_what_comes_but_not_what_runs(line: Line, running: FakeJob) -> None:
    (waiting,) = added(line, 1)
    line.stop()
    (late,) = added(line, 1)
    assert (waiting.outcome, late.outcome, running.outcome) == (STOPPING, STOPPING, "")
    assert not line.join(timeout_s=0)
    running.may_end.set()
    assert line.join(WITHIN_S)
    assert running.outcome == "answered"
