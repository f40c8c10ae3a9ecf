"""Spans and moments of messages: what no Duration and no Timestamp can be is refused, whatever is sent."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from farthing_kit.errors import InvalidArgument
from farthing_kit.wire import moment_from_message, span_from_message

int64 = st.integers(-(2**63), 2**63 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)


@given(int64 | st.integers(-400_000_000_000, 400_000_000_000), int32 | st.integers(-(10**9), 10**9))
def test_every_span_is_read_or_refused(seconds: int, nanos: int) -> None:
    try:
        span = span_from_message(Duration(seconds=seconds, nanos=nanos), "age")
    except InvalidArgument:
        assert abs(seconds) > 315_576_000_000 or abs(nanos) > 999_999_999 or seconds * nanos < 0
    else:
        assert abs(span - timedelta(seconds=seconds)) <= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("seconds", "nanos", "micros"), [(1, 999, 0), (1, 1_000, 1), (-1, -1_000, -1), (-1, -999, 0), (0, -5_500, -5)]
)
def test_a_span_is_cut_to_the_microsecond(seconds: int, nanos: int, micros: int) -> None:
    span = span_from_message(Duration(seconds=seconds, nanos=nanos), "age")
    assert span == timedelta(seconds=seconds, microseconds=micros)


@given(int64 | st.integers(-70_000_000_000, 260_000_000_000), int32)
def test_every_moment_is_read_or_refused(seconds: int, nanos: int) -> None:
    try:
        moment = moment_from_message(Timestamp(seconds=seconds, nanos=nanos), "start")
    except InvalidArgument:
        assert not -62_135_596_800 <= seconds <= 253_402_300_799 or not 0 <= nanos < 10**9
    else:
        assert moment.tzinfo is UTC
        assert moment == Timestamp(seconds=seconds, nanos=nanos).ToDatetime(UTC)


def test_the_first_and_the_last_moment() -> None:
    assert moment_from_message(Timestamp(seconds=-62_135_596_800), "start") == datetime(1, 1, 1, tzinfo=UTC)
    last = moment_from_message(Timestamp(seconds=253_402_300_799, nanos=999_999_999), "start")
    assert last == datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
