"""Look-ups by meaning through gRPC: the real verifier, a real Redis, vectors at chosen distances."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from redis.asyncio import Redis

from farthing.accounting.v1.policy_pb2 import CacheScope
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel, Task, Tier
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.onnx_verifier import OnnxVerifier
from farthing_cache.config import CacheSettings
from farthing_cache.domain.answer import Org
from farthing_cache.main import build
from farthing_kit.context import Principal
from farthing_kit.errors import InvalidArgument, StoreUnavailable
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import RunningProcess, operator_context, running, tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings
from farthing_kit.testing.waiting import until
from services.cache.tests.caller import provenance
from services.cache.tests.vectors import Vector, at_cosine, unit
from tests.support.evidence import plant

ACME = Org("acme")
ENCODER = bytes.fromhex(OnnxVerifier.load().encoder_sha256)
ASKED, SAME = "What is the capital of France?", "what's the capital of France"
TASK = Task.TASK_QUESTION_ANSWERING
DELTA = 0.05
VECTOR = unit(1)
NEAR = at_cosine(VECTOR, 0.96, 2)
Service = RunningProcess[CacheSettings]


class World:
    """Two replicas over one Redis, in the name of a tenant that trusts the semantic level."""

    def __init__(self, services: list[Service], stack: AsyncExitStack) -> None:
        self.services = services
        self._stack = stack

    async def stub(self, replica: int = 0, org: str = "acme", **principal: str) -> CacheServiceStub:
        context = tenant_context(principal=Principal(org=org, **principal))
        return CacheServiceStub(await self._stack.enter_async_context(self.services[replica].channel(context)))

    async def operator(self) -> CacheServiceStub:
        return CacheServiceStub(await self._stack.enter_async_context(self.services[0].channel(operator_context())))


@pytest.fixture(params=["memory", "vector sets"])
async def world(request: pytest.FixtureRequest, redis_url: str, nats_url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        for org in ("acme", "beta"):
            await plant(redis_url, KeyNames(TEST_SECRET), Org(org), [TASK], DELTA)
        made = settings(
            CacheSettings,
            redis_url=redis_url,
            nats_url=nats_url,
            redis_timeout_ms=5000,
            verifier_timeout_ms=5000,
            vector_sets=request.param == "vector sets",
        )
        services = [await stack.enter_async_context(running("cache", made, build)) for _ in range(2)]
        yield World(services, stack)


def key(prompt: str, compatibility: bytes = b"c", scope: CacheScope.ValueType = 0) -> pb.CacheKey:  # type: ignore[assignment]
    return pb.CacheKey(
        compatibility_digest=compatibility * 32, prompt_digest=prompt.encode().ljust(32, b".")[:32], scope=scope
    )


def meaning(text: str, vector: Vector, encoder: bytes = ENCODER, **more: Any) -> pb.Meaning:
    return pb.Meaning(embedding=vector.astype("<f4").tobytes(), encoder_sha256=encoder, text=text, **more)


async def keep(
    stub: CacheServiceStub, text: str = ASKED, answer: str = "Paris.", vector: Vector = VECTOR, **more: Any
) -> pb.CacheKey:
    where = key(text, more.pop("compatibility", b"c"), more.pop("scope", 0))
    epoch = (await stub.Lookup(pb.LookupRequest(key=where))).epoch
    kept = provenance()
    kept.text, kept.tier = answer, more.pop("tier", Tier.TIER_SMALL)
    said = meaning(text, vector, more.pop("encoder", ENCODER), **more.pop("meaning", {}))
    stored = await stub.Store(pb.StoreRequest(key=where, answer=kept, epoch=epoch, meaning=said, **more))
    assert stored.stored
    return where


async def ask(
    stub: CacheServiceStub, text: str = SAME, vector: Vector = NEAR, **more: Any
) -> pb.SemanticLookupResponse:
    where = key(text, more.pop("compatibility", b"c"), more.pop("scope", 0))
    said = meaning(text, vector, more.pop("encoder", ENCODER), **more.pop("meaning", {}))
    more = {"task": TASK, "max_error_share": DELTA, **more}
    return await stub.SemanticLookup(pb.SemanticLookupRequest(key=where, meaning=said, **more))


async def served(stub: CacheServiceStub, **more: Any) -> str | None:
    """The answer; an exploration, which a few percent of would-be hits are, is asked again."""
    while (found := await ask(stub, **more)).miss_reason == pb.MISS_REASON_EXPLORED:
        pass
    return found.answer.text if found.level == CacheLevel.CACHE_LEVEL_SEMANTIC else None


async def test_a_request_that_means_the_same_is_served_by_another_replica_at_once(world: World) -> None:
    await keep(await world.stub(0))
    assert await served(await world.stub(1)) == "Paris."
    found = await ask(await world.stub(1))
    assert found.similarity == pytest.approx(0.96, abs=0.002)
    assert found.score >= found.threshold
    assert found.lookup_id
    assert timedelta(hours=21) < found.time_to_live.ToTimedelta() <= timedelta(hours=24)


@pytest.mark.parametrize(
    ("kept", "asked", "veto"),
    [
        ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?", "negation"),
        ("How many ounces are in 2 cups?", "How many ounces are in 3 cups?", "numbers"),
        ("How tall is Mount Everest?", "How tall is Mont Blanc?", "entities"),
        ("How do I enable dark mode?", "How do I disable dark mode?", "antonyms"),
    ],
)
async def test_words_that_differ_speak_against_the_nearest_vector(
    world: World, kept: str, asked: str, veto: str
) -> None:
    stub = await world.stub()
    await keep(stub, kept)
    found = await ask(stub, asked, at_cosine(VECTOR, 0.995, 3))
    assert (found.miss_reason, found.veto, found.level) == (pb.MISS_REASON_VETO, veto, CacheLevel.CACHE_LEVEL_NONE)
    assert not found.HasField("answer")


async def test_what_is_far_is_no_candidate(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    assert (await ask(stub, vector=unit(99))).miss_reason == pb.MISS_REASON_NO_CANDIDATE


@pytest.mark.parametrize("change", ["system prompt", "model", "temperature", "tools", "history"])
async def test_another_compatibility_is_another_partition(world: World, change: str) -> None:
    """The same last message under another system prompt, model, temperature, tools or history."""
    stub = await world.stub()
    await keep(stub)
    found = await ask(stub, ASKED, VECTOR, compatibility=change.encode()[:1].upper())
    assert found.miss_reason == pb.MISS_REASON_NO_CANDIDATE


async def test_a_vector_of_another_encoder_is_never_compared(world: World) -> None:
    stub = await world.stub()
    await keep(stub, encoder=b"x" * 32)
    assert (await ask(stub)).miss_reason == pb.MISS_REASON_NO_CANDIDATE
    assert (await ask(stub, encoder=b"x" * 32)).miss_reason == pb.MISS_REASON_VERIFIER


async def test_no_tenant_team_or_user_meets_another(world: World) -> None:
    team: dict[str, Any] = {"scope": CacheScope.CACHE_SCOPE_TEAM}
    user: dict[str, Any] = {"scope": CacheScope.CACHE_SCOPE_USER}
    mine = await world.stub(team="red", user="ann")
    await keep(mine)
    await keep(mine, answer="Paris, reds.", **team)
    await keep(mine, answer="Paris, Ann.", **user)
    assert await served(mine) == "Paris."
    assert await served(mine, **team) == "Paris, reds."
    assert await served(mine, **user) == "Paris, Ann."
    assert await served(await world.stub(team="red", user="bob"), **team) == "Paris, reds."
    assert await served(await world.stub(team="red", user="bob"), **user) is None
    assert await served(await world.stub(team="blue", user="ann2"), **team) is None
    assert await served(await world.stub(org="beta", team="red", user="ann")) is None


async def test_a_circle_that_the_key_does_not_name_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await ask(await world.stub(), scope=CacheScope.CACHE_SCOPE_TEAM)


async def test_a_small_tiers_answer_never_serves_who_needs_a_larger_one(world: World) -> None:
    stub = await world.stub()
    where = await keep(stub)
    assert await served(stub, min_tier=Tier.TIER_MEDIUM) is None
    exact = await stub.Lookup(pb.LookupRequest(key=where, min_tier=Tier.TIER_MEDIUM))
    assert exact.level == CacheLevel.CACHE_LEVEL_NONE


async def test_an_older_answer_than_the_caller_accepts_is_not_served(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    age = Duration(nanos=1000)
    assert (await ask(stub, max_age=age)).miss_reason == pb.MISS_REASON_GONE


@pytest.mark.parametrize(
    "text",
    ["What is the weather in Paris today?", "What is on my calendar?", "Who is the current president of France?"],
)
async def test_what_depends_on_the_time_or_on_who_asks_is_exact_only(world: World, text: str) -> None:
    stub = await world.stub()
    await keep(stub, text)
    assert (await ask(stub, text, VECTOR)).miss_reason == pb.MISS_REASON_NOT_ELIGIBLE


async def test_pronouns_in_turn_two_are_exact_only(world: World) -> None:
    stub = await world.stub()
    text, history = "How old is he?", {"has_history": True}
    await keep(stub, text, meaning=history)
    assert (await ask(stub, text, VECTOR, meaning=history)).miss_reason == pb.MISS_REASON_NOT_ELIGIBLE


async def test_a_long_shared_prefix_beyond_the_window_is_exact_only(world: World) -> None:
    stub = await world.stub()
    text, cut = "word " * 400 + "one", {"truncated": True}
    await keep(stub, text, meaning=cut)
    assert (await ask(stub, text[:-3] + "two", VECTOR, meaning=cut)).miss_reason == pb.MISS_REASON_NOT_ELIGIBLE


async def test_nothing_is_served_while_evidence_is_thin_and_every_near_miss_is_compared(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    found = await ask(stub, task=Task.TASK_CODE)
    assert (found.miss_reason, found.level) == (pb.MISS_REASON_EVIDENCE, CacheLevel.CACHE_LEVEL_NONE)
    assert found.threshold > 1
    assert found.explore
    assert found.answer.text == "Paris."
    report = pb.ReportOutcomeRequest(lookup_id=found.lookup_id, agreement=pb.AGREEMENT_SAME)
    assert (await stub.ReportOutcome(report)).counted
    assert not (await stub.ReportOutcome(report)).counted
    known = {one.task: one for one in (await stub.GetStats(pb.GetStatsRequest())).categories}
    assert (known[Task.TASK_CODE].lookups, known[Task.TASK_CODE].labels, known[Task.TASK_CODE].wrong) == (1, 1, 0)


async def test_callers_can_raise_the_threshold_and_never_lower_it(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    assert (await ask(stub, min_score=0.9999)).miss_reason == pb.MISS_REASON_SCORE
    low = await ask(stub, vector=at_cosine(VECTOR, 0.5, 4), min_score=0.0001)
    assert low.miss_reason == pb.MISS_REASON_NO_CANDIDATE


async def test_a_policy_without_errors_gets_exact_answers_only(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    assert (await ask(stub, max_error_share=0.0)).miss_reason == pb.MISS_REASON_EVIDENCE


async def test_a_label_of_another_tenant_or_an_invented_one_is_refused(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    found = await ask(stub, task=Task.TASK_CODE)
    for name, who in ((found.lookup_id, await world.stub(org="beta")), (b"x" * 43, stub), (b"", stub)):
        with pytest.raises(InvalidArgument):
            await who.ReportOutcome(pb.ReportOutcomeRequest(lookup_id=name, agreement=pb.AGREEMENT_SAME))
    with pytest.raises(InvalidArgument):
        await stub.ReportOutcome(pb.ReportOutcomeRequest(lookup_id=found.lookup_id))


async def test_labels_of_two_replicas_add_up(world: World) -> None:
    await keep(await world.stub())
    for replica in (0, 1):
        stub = await world.stub(replica)
        found = await ask(stub, task=Task.TASK_CODE)
        await stub.ReportOutcome(pb.ReportOutcomeRequest(lookup_id=found.lookup_id, agreement=pb.AGREEMENT_DIFFERENT))

    async def both_know() -> bool:
        stats = [await (await world.stub(replica)).GetStats(pb.GetStatsRequest()) for replica in (0, 1)]
        codes = [one for each in stats for one in each.categories if one.task == Task.TASK_CODE]
        return [one.labels for one in codes] == [2, 2]

    await until(both_know)


@pytest.mark.parametrize("extent", [{}, {"tags": ["geography"]}, {"model": "small"}])
async def test_an_invalidation_reaches_the_vectors_of_every_replica(world: World, extent: dict[str, Any]) -> None:
    stubs = [await world.stub(replica) for replica in (0, 1)]
    await keep(stubs[0], tags=["geography"])
    assert [await served(stub) for stub in stubs] == ["Paris."] * 2
    await stubs[0].Invalidate(pb.InvalidateRequest(idempotency_key="i1", **extent))
    assert [await served(stub) for stub in stubs] == [None] * 2


async def test_a_tenant_that_an_operator_forgets_is_forgotten(world: World) -> None:
    stub = await world.stub()
    await keep(stub)
    await (await world.operator()).Invalidate(pb.InvalidateRequest(idempotency_key="deleted", org="acme"))
    assert await served(stub) is None


async def test_a_refusal_and_white_space_are_not_kept(world: World) -> None:
    stub = await world.stub()
    epoch = (await stub.Lookup(pb.LookupRequest(key=key("x")))).epoch
    for text, reason in (
        ("I'm sorry, but I can't help with that.", pb.NOT_STORED_REFUSAL),
        (" \n ", pb.NOT_STORED_EMPTY),
    ):
        refused = provenance()
        refused.text = text
        stored = await stub.Store(pb.StoreRequest(key=key("x"), answer=refused, epoch=epoch))
        assert (stored.stored, stored.reason) == (False, reason)


async def test_an_answer_whose_profile_another_version_wrote_is_none_and_stands_in_no_others_way(
    world: World, redis_url: str
) -> None:
    stub = await world.stub()
    await keep(stub, "What is the chief town of France?", "Old.", NEAR)
    async with Redis.from_url(redis_url) as raw:
        async for name in raw.scan_iter("*"):
            if await raw.type(name) == b"hash" and await raw.hexists(name, "p"):
                before: Any = await raw.hget(name, "p")
                await raw.hset(name, "p", b"\x01" + before[1:])
    assert (await ask(stub)).miss_reason == pb.MISS_REASON_GONE
    await keep(stub)
    assert await served(stub) == "Paris."


async def test_an_expired_answer_is_not_served_though_its_vector_is_near(world: World, redis_url: str) -> None:
    stub = await world.stub()
    await keep(stub)
    assert await served(stub) == "Paris."
    async with Redis.from_url(redis_url) as raw:
        names = KeyNames(TEST_SECRET)
        epoch = (await stub.Lookup(pb.LookupRequest(key=key("x")))).epoch
        async for name in raw.scan_iter(f"{names.partition(ACME)[:-1]}*:{epoch}:*"):
            if await raw.type(name) == b"hash":
                await raw.delete(name)
    assert (await ask(stub)).miss_reason == pb.MISS_REASON_GONE

    async def dropped() -> bool:
        return (await ask(stub)).miss_reason == pb.MISS_REASON_NO_CANDIDATE

    await until(dropped)


async def test_hits_are_back_soon_after_redis_was_away(redis_url: str, nats_url: str) -> None:
    await plant(redis_url, KeyNames(TEST_SECRET), ACME, [TASK], DELTA)
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    async with FaultProxy(port) as proxy:
        made = settings(
            CacheSettings, redis_url=f"redis://{proxy.address}/0", nats_url=nats_url, verifier_timeout_ms=5000
        )
        async with running("cache", made, build) as service, service.channel(tenant_context("acme")) as channel:
            stub = CacheServiceStub(channel)
            await until(lambda: keeps(stub))
            for fail in (proxy.down, proxy.blackhole):
                fail()
                with pytest.raises(StoreUnavailable):
                    await ask(stub)
                proxy.heal()
                await until(lambda: hits(stub))


async def keeps(stub: CacheServiceStub) -> bool:
    try:
        await keep(stub)
    except StoreUnavailable:
        return False
    return True


async def hits(stub: CacheServiceStub) -> bool:
    try:
        return await served(stub) == "Paris."
    except StoreUnavailable:
        return False


async def test_no_text_of_a_prompt_is_in_redis(world: World, redis_url: str) -> None:
    stub = await world.stub()
    await keep(stub, "What does canary zanzibar mean?", "It means nothing.")
    await ask(stub, "What does canary zanzibar mean to you?", VECTOR)
    async with Redis.from_url(redis_url) as raw:
        async for name in raw.scan_iter():
            dumped = await raw.dump(name) or b""
            assert b"zanzibar" not in bytes(name) + dumped


async def test_what_is_recorded_says_what_repeats_and_what_is_lost(world: World) -> None:
    stub = await world.stub()
    where = await keep(stub)
    for _ in range(3):
        await stub.Lookup(pb.LookupRequest(key=where, prefix_digest=b"s" * 32))
    await stub.Lookup(pb.LookupRequest(key=key(ASKED, b"o")))
    await stub.Lookup(pb.LookupRequest(key=key("not")))
    await ask(stub, "What is not the capital of France?", compatibility=b"c")

    async def recorded() -> bool:
        return (await stub.Analyze(pb.AnalyzeRequest())).lookups >= 6

    await until(recorded)
    found = await stub.Analyze(pb.AnalyzeRequest(thresholds=[1.0], lives=[Duration(seconds=3600)]))
    assert (found.exact_hits, found.repeats, found.lost_to_partitioning) == (3, 3, 1)
    assert found.shared_prefixes == 2
    assert found.simulations[0].exact_hits == 3
    assert found.recommendation.hit_share == pytest.approx(0.5)
    assert found.advice
    assert (await (await world.operator()).Analyze(pb.AnalyzeRequest(org="acme"))).lookups == found.lookups


@pytest.mark.parametrize(
    "wrong",
    [
        pb.Meaning(),
        pb.Meaning(embedding=b"abc", encoder_sha256=ENCODER, text="x"),
        pb.Meaning(embedding=(2 * VECTOR).tobytes(), encoder_sha256=ENCODER, text="x"),
        pb.Meaning(embedding=VECTOR.tobytes(), encoder_sha256=b"short", text="x"),
    ],
)
async def test_a_meaning_that_is_none_is_refused(world: World, wrong: pb.Meaning) -> None:
    with pytest.raises(InvalidArgument):
        await (await world.stub()).SemanticLookup(pb.SemanticLookupRequest(key=key("x"), meaning=wrong))
