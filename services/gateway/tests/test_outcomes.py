"""What was foretold is kept; what callers say about it is taken once, from those it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from farthing_gateway.adapters.outcome_stream import Bounds, open_outcomes
from farthing_gateway.app.authentication import Authentication
from farthing_gateway.app.outcomes import Outcomes
from farthing_gateway.domain.analysis import Analysis, Outlook
from farthing_gateway.domain.grants import Grants
from farthing_gateway.domain.model import FinishReason, Task, Tier
from farthing_gateway.domain.outcomes import (
    Foretold,
    Observed,
    Outcome,
    OutcomeSource,
    deserves_shadow,
    foretold,
    is_request_id,
    of_similar,
)
from farthing_gateway.domain.prompt import CacheControl, Message, Question, Sampling
from farthing_gateway.domain.similar import Similar
from farthing_gateway.ports import OutcomeBook
from farthing_kit import nats
from farthing_kit.errors import FarthingError, InvalidArgument, NotFound, StoreUnavailable, Unauthenticated
from farthing_kit.telemetry import MetricName, Telemetry
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.waiting import until
from services.gateway.tests.fakes import FakeCache, FakeKeys, FakeLine, FakeOutcomeBook
from services.gateway.tests.values import answer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOLD = Foretold("q_1", "acme", NOW, Tier.SMALL, "small", Task.MATHS, 0.25, 0.6, "heads-v2", "shipped")
OUTLOOKS = (Outlook(Tier.SMALL, 0.6, 0.1, 0.25),)
VERSIONS = {"model_version": "heads-v2", "calibration_version": "shipped"}
ANALYSIS = Analysis(0.1, Task.MATHS, 20, 0.2, 9, outlooks=OUTLOOKS, **VERSIONS)  # type: ignore[arg-type]
BOUNDS = Bounds(pending=10, decisions_bytes=1024 * 1024, outcomes_bytes=1024 * 1024, age_s=3600.0)
GARBAGE = ["", " ", "q.1", "q_1.>", "*", ">", "q_1\r\nPUB x", "q" * 129, "q_é", "q_1 ", "routing.decided.q_1", "../q"]


def said(
    told: Foretold = TOLD, outcome: Outcome = Outcome.ACCEPTABLE, source: OutcomeSource = OutcomeSource.CALLER
) -> Observed:
    return Observed(told, outcome, source)


@pytest.fixture(params=["memory", "jetstream"])
async def book(request: pytest.FixtureRequest, nats_url: str) -> AsyncIterator[OutcomeBook]:
    """Both implementations of the port."""
    if request.param == "memory":
        yield FakeOutcomeBook()
        return
    async with (
        nats.connect(nats_url, name="test") as client,
        open_outcomes(client, Telemetry("test"), BOUNDS) as opened,
    ):
        yield opened


async def all_of(book: OutcomeBook) -> list[Observed]:
    return [each async for each in book.observed()]


class TestBook:
    """What every OutcomeBook promises."""

    async def test_what_was_foretold_is_found_at_once_and_later(self, book: OutcomeBook) -> None:
        for number in range(5):
            book.foretell(replace(TOLD, request_id=f"q_{number}"))
            assert await book.find(f"q_{number}") == replace(TOLD, request_id=f"q_{number}")
        await _written(book)
        assert await book.find("q_3") == replace(TOLD, request_id="q_3")
        assert await book.find("q_9") is None

    async def test_a_second_report_replaces_the_first(self, book: OutcomeBook) -> None:
        await _ready(book)
        assert await book.write(said())
        assert await book.write(said(outcome=Outcome.NOT_ACCEPTABLE))
        assert await all_of(book) == [said(outcome=Outcome.NOT_ACCEPTABLE)]

    async def test_a_caller_outweighs_a_shadow_in_either_order(self, book: OutcomeBook) -> None:
        await _ready(book)
        shadow = OutcomeSource.SHADOW
        other = replace(TOLD, request_id="q_2")
        assert await book.write(said(source=shadow))
        assert await book.write(said(outcome=Outcome.NOT_ACCEPTABLE))
        assert await book.write(said(other))
        assert not await book.write(said(other, Outcome.NOT_ACCEPTABLE, shadow))
        assert await all_of(book) == [said(outcome=Outcome.NOT_ACCEPTABLE), said(other)]

    async def test_outcomes_come_in_the_order_of_their_reports(self, book: OutcomeBook) -> None:
        await _ready(book)
        ids = [f"q_{number}" for number in range(300)]
        for request_id in ids:
            await book.write(said(replace(TOLD, request_id=request_id)))
        assert [each.foretold.request_id for each in await all_of(book)] == ids

    async def test_without_outcomes_there_is_nothing(self, book: OutcomeBook) -> None:
        await _ready(book)
        assert await all_of(book) == []


async def _ready(book: OutcomeBook) -> None:
    """The streams are there: what was foretold first has been written down."""
    book.foretell(replace(TOLD, request_id="q_first"))
    await _written(book)


async def _written(book: OutcomeBook) -> None:
    async def nothing_waits() -> bool:
        return not getattr(book, "pending", 0)

    await until(nothing_waits)


async def test_what_finds_no_room_is_lost_and_counted(nats_url: str) -> None:
    telemetry = Telemetry("test")
    async with (
        nats.connect(nats_url, name="test") as client,
        open_outcomes(client, telemetry, replace(BOUNDS, pending=2)) as book,
    ):
        for number in range(5):
            book.foretell(replace(TOLD, request_id=f"q_{number}"))
        assert telemetry.metrics.value(MetricName.FORETOLD_DROPPED) == 3
        await _written(book)
        assert await book.find("q_1") is not None
        assert await book.find("q_4") is None


async def test_what_was_foretold_outlives_the_gateway(nats_url: str) -> None:
    for _ in range(2):
        async with (
            nats.connect(nats_url, name="test") as client,
            open_outcomes(client, Telemetry("test"), BOUNDS) as book,
        ):
            await until(lambda: book.made)
            if await book.find("q_1") is not None:
                return
            book.foretell(TOLD)
    pytest.fail("the second gateway does not know what the first foretold")


async def test_without_jetstream_reports_are_refused_and_requests_are_not(nats_url: str) -> None:
    async with (
        nats.connect(nats_url, name="test") as client,
        open_outcomes(client, Telemetry("test"), BOUNDS) as book,
    ):
        await until(lambda: book.made)
        for stream in ("ROUTING", "OUTCOMES"):
            await client.jetstream().delete_stream(stream)
        book.foretell(TOLD)
        assert await book.find("q_1") == TOLD
        await until(lambda: book.pending == 0)  # the streams are made again
        assert await book.find("q_1") == TOLD
        await client.close()
        with pytest.raises(StoreUnavailable):
            await book.find("q_2")
        with pytest.raises(StoreUnavailable):
            await book.write(said())
        with pytest.raises(StoreUnavailable):
            await all_of(book)


@pytest.fixture
def outcomes() -> Outcomes:
    book = FakeOutcomeBook()
    book.foretell(TOLD)
    grants = Grants(limit=10, stale_s=1.0, refusal_s=1.0)
    return Outcomes(
        Authentication(FakeKeys(), grants, FakeLine(), VirtualClock(), salt=b"salt"), book, FakeCache(VirtualClock())
    )


async def test_a_report_is_kept_beside_what_was_foretold(outcomes: Outcomes) -> None:
    await outcomes.report("fk_acme", "q_1", Outcome.NOT_ACCEPTABLE)
    assert [each async for each in outcomes.observed(None)] == [said(outcome=Outcome.NOT_ACCEPTABLE)]
    assert [each async for each in outcomes.observed(NOW)] == [said(outcome=Outcome.NOT_ACCEPTABLE)]
    assert [each async for each in outcomes.observed(NOW + timedelta(seconds=1))] == []


async def test_another_organisation_hears_the_same_as_of_an_unknown_request(outcomes: Outcomes) -> None:
    heard = []
    for request_id in ("q_1", "q_unknown"):
        with pytest.raises(NotFound) as error:
            await outcomes.report("fk_beta", request_id, Outcome.ACCEPTABLE)
        heard.append((error.value.message, error.value.metadata))
    assert heard[0] == heard[1]
    assert [each async for each in outcomes.observed(None)] == []


@pytest.mark.parametrize("request_id", GARBAGE)
async def test_what_cannot_be_a_request_id_is_refused(outcomes: Outcomes, request_id: str) -> None:
    assert not is_request_id(request_id)
    with pytest.raises(InvalidArgument) as error:
        await outcomes.report("fk_acme", request_id, Outcome.ACCEPTABLE)
    assert [violation.field for violation in error.value.fields] == ["request_id"]


@pytest.mark.parametrize("key", [None, "", "fk_nobody", "acme"])
async def test_nobody_reports_without_a_key(outcomes: Outcomes, key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await outcomes.report(key, "q_1", Outcome.ACCEPTABLE)


async def test_a_store_that_is_away_is_said_to_be_away(outcomes: Outcomes) -> None:
    book = outcomes.book
    assert isinstance(book, FakeOutcomeBook)
    book.error = StoreUnavailable("away")
    with pytest.raises(FarthingError) as error:
        await outcomes.report("fk_acme", "q_1", Outcome.ACCEPTABLE)
    assert error.value.reason_name == "ERROR_REASON_STORE_UNAVAILABLE"


def test_only_what_the_classifier_said_of_the_tier_that_answered_was_foretold() -> None:
    told = foretold("q_1", "acme", ANALYSIS, answer(created_at=NOW))
    assert told == TOLD
    assert foretold("q_1", "acme", None, answer()) is None
    assert foretold("q_1", "acme", ANALYSIS, answer(tier=Tier.LARGE)) is None


def question(*, no_store: bool = False) -> Question:
    sampling, control = Sampling(64, 0.0, 1.0, 0, ()), CacheControl(no_store=no_store)
    return Question((Message(2, "2+2?"),), sampling, Tier.UNSPECIFIED, "", control, {})


def test_a_share_of_requests_gets_a_shadow_and_always_the_same_ones() -> None:
    ids = [f"q_{number:032x}" for number in range(4000)]

    def chosen(share: float) -> set[str]:
        return {each for each in ids if deserves_shadow(replace(TOLD, request_id=each), answer(), question(), share)}

    assert chosen(0.0) == set()
    assert 0.08 < len(chosen(0.1)) / len(ids) < 0.12
    assert chosen(0.05) < chosen(0.1)
    assert chosen(0.1) == chosen(0.1)


def test_some_requests_never_get_a_shadow() -> None:
    assert deserves_shadow(TOLD, answer(), question(), 1.0)
    assert not deserves_shadow(TOLD, answer(), question(no_store=True), 1.0)
    assert not deserves_shadow(replace(TOLD, tier=Tier.LARGE), answer(), question(), 1.0)
    assert not deserves_shadow(replace(TOLD, cascade=True), answer(), question(), 1.0)
    assert not deserves_shadow(TOLD, answer(finish_reason=FinishReason.LENGTH), question(), 1.0)
    assert not deserves_shadow(replace(TOLD, request_id="q" * 128), answer(), question(), 1.0)


async def test_an_outcome_of_a_semantic_hit_is_evidence_for_the_cache_alone() -> None:
    book, cache = FakeOutcomeBook(), FakeCache(VirtualClock())
    hit = Similar(answer(), served=True, lookup_id=b"receipt")
    told = of_similar("q_1", "acme", hit, Task.CHAT, datetime(2026, 1, 1, tzinfo=UTC))
    assert told is not None
    book.foretell(told)
    grants = Grants(limit=10, stale_s=1.0, refusal_s=1.0)
    outcomes = Outcomes(Authentication(FakeKeys(), grants, FakeLine(), VirtualClock(), salt=b"salt"), book, cache)
    for outcome in Outcome:
        await outcomes.report("fk_acme", "q_1", outcome)
    assert cache.reports == [(b"receipt", True), (b"receipt", False)]
    assert book.written == {}
