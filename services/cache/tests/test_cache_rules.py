"""The pure rules of the cache: admission, refresh, flights, partitions, worth, receipts, shared evidence, analysis."""

from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_cache.domain.admission import Verdict, admit
from farthing_cache.domain.analysis import Question, advise, analyze
from farthing_cache.domain.answer import Epoch
from farthing_cache.domain.block import COMPARED, ROOM
from farthing_cache.domain.bound import Action, Guard, Promise
from farthing_cache.domain.codes import FIRST_WORDS, WORDS, codes, most_apart
from farthing_cache.domain.flight import continuation
from farthing_cache.domain.hitlog import VETOES, Event, Outcome, Record, pack, unpack
from farthing_cache.domain.neighbours import cosine, narrow
from farthing_cache.domain.partition import Partition
from farthing_cache.domain.receipt import Receipt, read, write
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.domain.shared_guard import merged
from farthing_cache.domain.worth import value_per_byte
from services.cache.tests.vectors import DIMENSION, at_cosine, rows, rows_of, unit

EPOCH = Epoch(1)
FOREVER = 10**15


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "Sorry, I am unable to provide medical advice.",
        "I cannot assist with this request.",
        "I can’t help with that.",
        "As an AI language model, I cannot have opinions.",
        "Unfortunately, I'm not able to answer that.",
        "I apologize, but I won't write that.",
        "I must decline to answer.",
    ],
)
def test_a_refusal_is_not_worth_keeping(text: str) -> None:
    assert admit(text) is Verdict.REFUSAL


@pytest.mark.parametrize(
    "text",
    [
        "Paris.",
        "A cat cannot taste sweetness.",
        "I cannot is a phrase in English that means I am not able to.",
        "Sorry is a word that expresses regret.",
        "To refuse politely, write: I'm sorry, but I can't come.",
        "If you can't open the file, check its rights.",
    ],
)
def test_an_answer_about_refusing_is_kept(text: str) -> None:
    assert admit(text) is Verdict.KEPT


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_nothing_is_not_kept(text: str) -> None:
    assert admit(text) is Verdict.EMPTY


def test_early_refresh_needs_a_hot_answer_near_its_end() -> None:
    refresh = EarlyRefresh(hot_hits=3, beta=1.0)
    took = timedelta(seconds=2)
    assert refresh.due(hits=3, took=took, left=timedelta(seconds=1), lead=refresh.lead_per_second(0.5))
    assert not refresh.due(hits=2, took=took, left=timedelta(seconds=1), lead=refresh.lead_per_second(0.5))
    assert not refresh.due(hits=9, took=took, left=timedelta(seconds=9), lead=refresh.lead_per_second(0.5))
    assert not EarlyRefresh(0, 1.0).due(hits=9, took=took, left=timedelta(0), lead=1.0)


@given(before=st.binary(max_size=20), now=st.binary(max_size=20))
def test_a_follower_is_sent_exactly_what_is_missing_or_nothing(before: bytes, now: bytes) -> None:
    more = continuation(len(before), before, now)
    if now.startswith(before):
        assert more is not None
        assert before + more == now
    elif before.startswith(now):
        assert more == b""
    else:
        assert more is None


def partition(limit_bytes: int = 100_000_000) -> Partition:
    return Partition(EPOCH, limit_bytes)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_the_nearest_row_is_found_among_few_and_among_many() -> None:
    made = partition()
    for count in range(0, 300, 50):
        made.add(rows(range(count, count + 50)), now_ms=0)
        for number in range(0, count + 50, 10):
            asked = at_cosine(unit(number), 0.95, number + 1000)
            assert made.near(narrow(asked), 5, 0.9, 0, now_ms=0) == [name(number)]


def test_the_nearest_rows_come_first_and_none_is_below_the_floor() -> None:
    made, asked = partition(), unit(1)
    shares = [0.72, 0.95, 0.6, 0.8, 0.9, 0.69, 0.99, 0.75]
    made.add(rows(range(500)), now_ms=0)
    made.add(rows_of([at_cosine(asked, share, 700 + at) for at, share in enumerate(shares)], first=1000), now_ms=0)
    found = made.near(narrow(asked), 6, 0.7, 0, now_ms=0)
    assert found == [name(1), *(name(1000 + shares.index(share)) for share in (0.99, 0.95, 0.9, 0.8, 0.75))]


def test_codes_lose_next_to_nothing_at_the_floor() -> None:
    near = [(unit(number), at_cosine(unit(number), 0.7, number + 5000)) for number in range(2_000)]
    one, other = (codes(np.stack([narrow(pair[side]) for pair in near])) for side in (0, 1))
    for words in (FIRST_WORDS, WORDS):
        apart = np.bitwise_count(one[:, :words] ^ other[:, :words]).sum(axis=1)
        assert np.mean(apart > most_apart(words, 0.69)) < 0.005


def test_where_all_rows_are_alike_as_many_as_wanted_are_found() -> None:
    made, asked = partition(), unit(1)
    made.add(rows_of([at_cosine(asked, 0.9, 10 + number) for number in range(3 * COMPARED)]), now_ms=0)
    made.add(rows_of([at_cosine(asked, 0.99, 9999)], first=9999), now_ms=0)
    found = made.near(narrow(asked), 5, 0.7, 0, now_ms=0)
    assert found[0] == name(9999)
    assert len(set(found)) == 5


def test_a_row_that_ended_or_is_of_too_small_a_tier_is_not_found() -> None:
    made = partition()
    made.add(rows(range(8), ends_ms=100), now_ms=0)
    asked = narrow(unit(3))
    assert made.near(asked, 1, 0.9, 1, now_ms=99)
    assert made.near(asked, 1, 0.9, 2, now_ms=99) == []
    assert made.near(asked, 1, 0.9, 1, now_ms=100) == []


def test_rows_that_ended_give_their_memory_back() -> None:
    made = partition()
    for moment in range(200):
        made.add(rows(range(moment * 100, moment * 100 + 100), ends_ms=moment + 5), now_ms=moment)
    assert len(made) <= 1_000
    assert made.size_bytes < 2_000 * 500
    assert made.near(narrow(unit(199 * 100)), 1, 0.9, 0, now_ms=199) == [name(199 * 100)]


def test_a_dropped_row_is_not_found() -> None:
    made = partition()
    made.add(rows(range(8)), now_ms=0)
    made.drop([name(3), name(3), name(77)])
    assert len(made) == 7
    assert made.near(narrow(unit(3)), 1, 0.9, 0, 0) == []


def test_of_an_entry_that_was_kept_again_the_row_that_ends_last_is_left() -> None:
    made = partition()
    made.add(rows(range(8), ends_ms=100), now_ms=0)
    made.add(rows([3], ends_ms=200), now_ms=0)
    assert made.near(narrow(unit(3)), 5, 0.9, 0, 0) == [name(3)]
    assert len(made) == 8
    assert made.near(narrow(unit(3)), 5, 0.9, 0, 150) == [name(3)]


def test_of_too_many_rows_those_of_least_worth_go() -> None:
    made = partition(limit_bytes=32_000)
    made.add(rows(range(60)), now_ms=0)
    assert 40 < len(made) < 60
    assert made.near(narrow(unit(59)), 1, 0.9, 0, 0)
    assert not made.near(narrow(unit(0)), 1, 0.9, 0, 0)


def test_a_partition_keeps_within_its_limit_whatever_comes() -> None:
    made, rows_bytes = partition(limit_bytes=500_000), 200 * 500
    for start in range(0, 20_000, 200):
        made.add(rows(range(start, start + 200), worth=1.0), now_ms=0)
        assert made.size_bytes < 500_000 + rows_bytes
    assert made.near(narrow(unit(19_999)), 1, 0.9, 0, 0) == [name(19_999)]


def test_vectors_of_another_dimension_are_not_compared() -> None:
    made = partition()
    made.add(rows(range(3)), now_ms=0)
    assert made.near(np.ones(16, np.int8), 1, 0.0, 0, 0) == []
    made.add(rows_of([np.ones(16, np.float32)], first=9), now_ms=0)
    assert len(made) == 3


def test_blocks_are_filled_one_after_the_other() -> None:
    made, found = partition(10**9), rows(range(1_000))
    for start in range(0, ROOM + 5_000, 1_000):
        found.ids[:, 0] = start
        made.add(found, now_ms=0)
    assert len(made) == -(-(ROOM + 5_000) // 1_000) * 1_000
    assert len(made.near(narrow(unit(7)), 100, 0.9, 0, 0)) == -(-(ROOM + 5_000) // 1_000)


@given(seed=st.integers(0, 1000), share=st.floats(0.5, 0.999))
def test_narrowing_keeps_a_direction_to_a_thousandth(seed: int, share: float) -> None:
    one = unit(seed)
    other = at_cosine(one, share, seed + 5000)
    narrowed = narrow(one).astype(np.float32)
    got = float(narrowed @ narrow(other).astype(np.float32))
    got /= float(np.linalg.norm(narrowed) * np.linalg.norm(narrow(other).astype(np.float32)))
    assert abs(got - share) < 0.01
    assert abs(cosine(one, other.astype("<f2").tobytes()) - share) < 0.001
    assert cosine(one, b"") == 0.0
    assert len(one) == DIMENSION


def test_worth_is_cost_by_size() -> None:
    assert value_per_byte(1000, 100) > value_per_byte(1000, 10_000) > value_per_byte(10, 10_000)


def test_a_receipt_is_read_by_who_wrote_it_and_for_a_day() -> None:
    receipt = Receipt(3, 0.91, True, 0.05, 2, 1_000_000, b"12345678")
    name = write(receipt, b"s" * 32)
    assert read(name, b"s" * 32, 1_000_010.0) == receipt
    assert read(name, b"t" * 32, 1_000_010.0) is None
    assert read(name, b"s" * 32, 1_100_000.0) is None
    assert read(name[:-1] + bytes([name[-1] ^ 1]), b"s" * 32, 1_000_010.0) is None


def busy(guard: Guard, requests: int, *, wrong_every: int) -> Guard:
    for number in range(requests):
        guard.observe_request()
        decision = guard.decide(0.9, (number * 0.37) % 1)
        if decision.action is not Action.SERVE:
            explored = decision.action is Action.EXPLORE
            right = number % wrong_every != 0
            guard.label(0.9, explored=explored, right=right, propensity=decision.propensity)
    return guard


def test_what_two_replicas_saw_adds_up() -> None:
    promise = Promise(delta=0.1)
    base = busy(Guard.new(promise), 300, wrong_every=7).to_state()
    mine = busy(Guard.from_state(base, promise), 40, wrong_every=5).to_state()
    theirs = busy(Guard.from_state(base, promise), 60, wrong_every=3).to_state()
    both = Guard.from_state(merged(base, mine, theirs), promise)
    assert both.requests == 400
    assert both.labels == mine["labels"] + theirs["labels"] - base["labels"]
    assert both.threshold == max(mine["threshold"], theirs["threshold"])
    assert merged(base, base, theirs) == theirs


def test_a_threshold_moves_with_who_moved_it_and_of_two_the_higher_holds() -> None:
    base = busy(Guard.new(Promise()), 300, wrong_every=7).to_state()
    lower, raised = {**base, "threshold": 40}, {**base, "threshold": 60}
    at = {**base, "threshold": 50}
    assert merged(at, lower, at)["threshold"] == 40
    assert merged(at, at, lower)["threshold"] == 40
    assert merged(at, lower, raised)["threshold"] == 60


def test_a_record_survives_packing() -> None:
    place = b"q" * 8
    record = Record(Event.SEMANTIC, 123, b"p" * 8, place, Outcome.VETO, VETOES["numbers"], near=b"n" * 8, score=0.5)
    assert list(unpack(pack(record) * 3 + b"rest")) == [record] * 3


def test_every_field_of_a_record_is_packed() -> None:
    plain = Record(Event.SEMANTIC, 123, b"p" * 8, b"q" * 8)
    other = {Event: Event.STORE, Outcome: Outcome.VETO, int: 7, bytes: b"x" * 8, float: 0.5}
    for each in fields(Record):
        changed = replace(plain, **{each.name: other[type(getattr(plain, each.name))]})  # type: ignore[arg-type]
        assert list(unpack(pack(changed))) == [changed] != [plain]


def look(prompt: bytes, at_s: float, event: Event = Event.MISS, **more: object) -> Record:
    place = more.pop("place", b"place---")
    return Record(event, int(at_s * 1000), prompt.ljust(8, b"-"), place, **more)  # type: ignore[arg-type]


def kept(prompt: bytes, at_s: float, cost: int = 100, **more: object) -> Record:
    return look(prompt, at_s, Event.STORE, cost_nano_usd=cost, **more)


def test_an_analysis_says_what_repeats_and_to_what_hits_were_lost() -> None:
    near = b"a".ljust(8, b"-")
    records = [
        look(b"a", 0), kept(b"a", 1),
        look(b"a", 10, Event.EXACT, cost_nano_usd=100),
        look(b"a", 5000),  # had expired
        look(b"a", 5001, place=b"other---"),
        look(b"b", 20),
        look(b"b", 20, Event.SEMANTIC, outcome=Outcome.SERVED, near=near, score=0.97, cost_nano_usd=100),
        look(b"c", 21), look(b"c", 21, Event.SEMANTIC, outcome=Outcome.VETO, near=near, veto=VETOES["numbers"]),
        look(b"d", 22), look(b"d", 22, Event.SEMANTIC, outcome=Outcome.SCORE, near=near, score=0.8),
    ]  # fmt: skip
    found = analyze(records, Question())
    assert (found.looks, found.exact, found.semantic) == (7, 1, 1)
    assert (found.repeats, found.near_repeats) == (2, 3)
    assert (found.losses.expiry, found.losses.partitioning, found.losses.threshold) == (1, 1, 1)
    assert found.losses.veto == {VETOES["numbers"]: 1}
    assert found.avoided == 200
    by = {(one.settings.threshold, one.settings.life): one for one in found.simulations}
    assert by[1.0, timedelta(minutes=10)].exact == 1
    assert by[1.0, timedelta(days=1)].exact == 2
    assert by[0.95, timedelta(days=1)].semantic == 1
    assert by[0.8, timedelta(days=1)].semantic == 2
    assert found.advised is not None
    assert found.advised.settings.threshold == pytest.approx(0.97)
    assert found.advised.settings.life == timedelta(hours=6)
    assert "6 h" in found.advice


def test_a_small_cache_loses_what_was_not_used_lately() -> None:
    records = [kept(bytes([one]), -1) for one in range(65, 70)]
    for turn in range(3):
        records += [look(bytes([one]), turn * 10 + one - 65) for one in range(65, 70)]
    found = analyze(records, Question(thresholds=(1.0,), lives=(timedelta(days=1),), sizes=(0, 2, 5)))
    assert [one.exact for one in found.simulations] == [10, 0, 10]
    assert found.advised is not None
    assert found.advised.settings.size == 5


def test_no_look_ups_give_no_advice() -> None:
    found = analyze([], Question())
    assert (found.looks, found.advised) == (0, None)
    assert advise([], 1.0) is None
