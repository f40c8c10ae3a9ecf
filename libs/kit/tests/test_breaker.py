"""When a store is left alone."""

from __future__ import annotations

import pytest

from farthing_kit.breaker import Breaker


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3, pause_s=1.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    assert breaker.wait_s(0.0) == 0.0


def test_an_open_breaker_lets_one_call_try_after_each_pause() -> None:
    breaker = Breaker(threshold=1, pause_s=1.0)
    breaker.failed(10.0)
    assert breaker.wait_s(10.4) == pytest.approx(0.6)
    assert breaker.wait_s(11.0) == 0.0
    assert breaker.wait_s(11.0) == 1.0
    assert breaker.open
    breaker.succeeded()
    assert breaker.wait_s(11.1) == 0.0
    assert not breaker.open
