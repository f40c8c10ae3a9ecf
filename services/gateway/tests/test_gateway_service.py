"""The whole gateway through gRPC, between peers that do what they are told."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from nats.aio.client import Client

from farthing.accounting.v1.policy_pb2 import OutageMode
from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import CacheLevel, ChatMessage, ChatRole, FinishReason, Sampling, Tier
from farthing_kit.charging import Charged, saying
from farthing_kit.context import Priority, Role
from farthing_kit.errors import FarthingError, Overloaded, QueueUnavailable, StoreUnavailable, Unavailable
from farthing_kit.telemetry import Attr, MetricName
from farthing_kit.testing.proxy import Direction, FaultProxy
from services.gateway.tests.peers import ANSWER, USAGE, World, world

R = ErrorReason
KEY = (("authorization", "Bearer fk_acme"),)
TEXT = "".join(ANSWER)
# Text that must not turn up anywhere but in messages of gRPC.
CANARY = "kestrel-canary"
REFUSED = {"service": "farthing.gateway.v1.GatewayService", "method": "Complete", "code": "UNAUTHENTICATED"}


@pytest.fixture
async def mesh(nats_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats_url, tmp_path) as made:
        yield made


def prompt(text: str = f"What is the capital of France, {CANARY}?", **changes: Any) -> pb.Prompt:
    return pb.Prompt(messages=[ChatMessage(role=ChatRole.CHAT_ROLE_USER, content=text)], **changes)


async def complete(mesh: World, asked: pb.Prompt | None = None, **options: Any) -> pb.CompleteResponse:
    options.setdefault("metadata", KEY)
    response: pb.CompleteResponse = await GatewayServiceStub(mesh.channel).Complete(
        pb.CompleteRequest(prompt=asked or prompt()), **options
    )
    return response


async def refused(
    mesh: World, reason: ErrorReason.ValueType, asked: pb.Prompt | None = None, **options: Any
) -> FarthingError:
    with pytest.raises(FarthingError) as error:
        await complete(mesh, asked, **options)
    assert error.value.reason == reason, error.value
    assert CANARY not in error.value.message
    return error.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of other tasks, which wake nobody
            await asyncio.sleep(0.001)


class TestTheWay:
    async def test_a_stream_is_a_decision_deltas_and_a_final(self, mesh: World) -> None:
        call = GatewayServiceStub(mesh.channel).Generate(pb.GenerateRequest(prompt=prompt()), metadata=KEY)
        events = [event async for event in call]
        assert [event.WhichOneof("event") for event in events] == ["decision", *["delta"] * 3, "final"]
        decision, final = events[0].decision, events[-1].final
        assert "".join(event.delta.text for event in events) == TEXT
        assert (decision.tier, decision.model, decision.pool) == (Tier.TIER_SMALL, "small", "cpu-local")
        assert (decision.quantization, decision.cache_level) == ("INT4", CacheLevel.CACHE_LEVEL_NONE)
        assert decision.analysis.complexity == pytest.approx(0.1)
        assert decision.reserved.nano_units > final.cost.nano_units
        assert "cheapest to reach 0.70" in decision.explanation
        routing = decision.routing
        assert routing.reason == pb.ROUTING_REASON_QUALITY_FLOOR
        assert [(each.model, each.success) for each in routing.options] == [
            ("small", 0.90),
            ("medium", 0.95),
            ("large", 0.98),
        ]
        assert all(each.expected_cost.nano_units > 0 for each in routing.options)
        assert (list(decision.analysis.flags), decision.analysis.calibration_version) == (["TRUNCATED"], "c1")
        assert not decision.degradations
        assert final.usage == USAGE
        assert (final.cost.currency_code, final.cost.nano_units) == ("USD", 540)
        assert (final.counterfactual_cost.nano_units, final.saved.nano_units) == (32_000, 31_460)
        assert final.duration.ToTimedelta() >= final.time_to_first_token.ToTimedelta()

    async def test_the_pace_of_the_budget_lowers_the_floor_of_the_next_decision(self, mesh: World) -> None:
        mesh.script.budget_pace = 1.5
        control = pb.CacheControl(no_cache=True)
        first, second = [await complete(mesh, prompt(cache_control=control)) for _ in range(2)]
        assert (first.decision.routing.budget_pace, first.decision.routing.quality_floor) == (0.0, 0.7)
        assert (second.decision.routing.budget_pace, second.decision.routing.quality_floor) == (1.5, 0.6)
        assert "floor 0.70 → 0.60" in second.decision.explanation

    async def test_a_floor_of_the_caller_and_a_session_are_read_from_the_prompt(self, mesh: World) -> None:
        mesh.script.policy.routing.session_time_to_live.FromSeconds(60)
        control = pb.CacheControl(no_cache=True)
        better = await complete(mesh, prompt(cache_control=control, session_id="s", quality_floor=0.97))
        after = await complete(mesh, prompt(cache_control=control, session_id="s"))
        assert (better.decision.tier, after.decision.tier) == (Tier.TIER_LARGE, Tier.TIER_LARGE)
        assert after.decision.routing.reason == pb.ROUTING_REASON_SESSION
        value = mesh.gateway.process.telemetry.metrics.value
        assert value("farthing_routed_total", reason="session", tier="large") == 1

    async def test_complete_is_the_same_collected(self, mesh: World) -> None:
        response = await complete(mesh)
        assert response.text == TEXT
        assert response.final.finish_reason == FinishReason.FINISH_REASON_STOP
        assert response.decision.request_id in mesh.script.jobs

    async def test_every_hop_is_made_in_the_callers_name(self, mesh: World) -> None:
        response = await complete(mesh, prompt(priority=3))
        for method in ("Lookup", "Analyze", "Reserve", "Generate"):
            context = mesh.script.contexts[method]
            assert context.request_id == response.decision.request_id
            assert (context.principal.org, context.principal.key_id) == ("acme", "k_acme")
            assert (context.role, context.priority) == (Role.TENANT, Priority.HIGH)
        assert mesh.script.contexts["Authorize"].role is Role.SERVICE

    async def test_the_job_says_everything_that_accounting_must_know(self, mesh: World) -> None:
        response = await complete(mesh, prompt(tags={"feature": "search"}))
        job = mesh.script.jobs[response.decision.request_id]
        assert job.charge.reservation_id == response.decision.reservation_id
        assert dict(job.charge.tags) == {"feature": "search"}
        assert (job.charge.quote.model, job.charge.quote.counterfactual_model) == ("small", "large")
        assert job.sampling.max_output_tokens == 256
        assert mesh.script.reservations[job.charge.reservation_id].estimate.output_tokens == 256

    async def test_a_repetition_comes_from_memory_and_another_gateways_from_the_cache(
        self, mesh: World, nats_url: str, tmp_path: Path
    ) -> None:
        await complete(mesh)
        await mesh.script.stored.wait()
        near = await complete(mesh)
        assert near.decision.cache_level == CacheLevel.CACHE_LEVEL_NEAR
        assert near.text == TEXT
        assert near.final.usage.output_tokens == near.final.cost.nano_units == 0
        assert near.final.saved.nano_units == 32_000
        async with world(nats_url, tmp_path / "two") as other:
            other.script.entries = mesh.script.entries
            exact = await complete(other)
            assert exact.decision.cache_level == CacheLevel.CACHE_LEVEL_EXACT
            assert exact.decision.similarity == 1.0
            assert "Analyze" not in other.script.calls

    async def test_keys_in_the_cache_are_digests(self, mesh: World) -> None:
        await complete(mesh)
        await mesh.script.stored.wait()
        [(_, raw)] = mesh.script.entries
        assert len(raw) == 70  # two digests and the scope
        assert hashlib.sha256(prompt().messages[0].content.encode()).digest() not in raw

    async def test_models_are_listed_cheapest_first(self, mesh: World) -> None:
        response = await GatewayServiceStub(mesh.channel).ListModels(pb.ListModelsRequest(), metadata=KEY)
        assert [model.name for model in response.models] == ["small", "medium", "large"]
        small = response.models[0]
        assert small.available
        assert (small.weights, small.quantization, small.context_tokens) == ("SmolLM2-135M-Instruct", "INT4", 2048)
        assert small.prices.output.nano_units == 60_000_000

    async def test_a_hit_is_booked_exactly_once_in_the_stream_of_usage(self, mesh: World) -> None:
        await complete(mesh)
        hit = await complete(mesh, prompt(tags={"feature": "again"}))
        subscription = await mesh.usage.subscribe("usage.acme")
        message = await subscription.next_msg(timeout=10)
        event = UsageEvent.FromString(message.data)
        assert event.request_id == hit.decision.request_id
        assert message.headers is not None
        assert message.headers["Nats-Msg-Id"] == f"{event.attempt.attempt_id}/hit"
        assert event.attempt.request_id == event.request_id
        assert event.principal.org == "acme"
        assert event.cache_level == CacheLevel.CACHE_LEVEL_NEAR
        assert (event.usage.output_tokens, event.counterfactual_usage) == (0, USAGE)
        assert (event.quote.model, event.quote.counterfactual_model, event.quote.price_version) == ("small", "large", 3)
        assert dict(event.tags) == {"feature": "again"}
        assert CANARY.encode() not in message.data
        assert (await mesh.usage.stream_info("USAGE")).state.messages == 1

    async def test_a_hit_that_costs_is_reserved_told_counted_and_booked_at_the_same_price(self, mesh: World) -> None:
        mesh.script.policy.version = 7
        mesh.script.policy.semantic_cache.hit_price_share = 0.333333
        await complete(mesh)
        hit = await complete(mesh)
        assert (hit.final.cost.nano_units, hit.final.saved.nano_units) == (180, 32_000 - 180)
        asked = mesh.script.reservations[hit.decision.reservation_id]
        assert (asked.model, asked.estimate) == ("small", USAGE)
        assert hit.decision.reserved.nano_units == 180
        subscription = await mesh.usage.subscribe("usage.acme")
        event = UsageEvent.FromString((await subscription.next_msg(timeout=10)).data)
        assert (event.hit_price.policy_version, event.hit_price.share_millionths) == (7, 333_333)
        assert (event.hit_price, event.reservation_id) == (asked.hit_price, hit.decision.reservation_id)
        value = mesh.gateway.process.telemetry.metrics.value
        assert value(MetricName.COST_NANO_USD, cache="near", tier="small", model="small") == 180
        assert value(MetricName.SAVED_NANO_USD, cache="near", tier="small", model="small") == 32_000 - 180

    async def test_the_span_of_a_request_says_what_happened_and_not_what_was_said(self, mesh: World) -> None:
        first, second = await complete(mesh), await complete(mesh)
        missed, hit = mesh.gateway.spans.named("farthing.gateway.v1.GatewayService/Complete")
        for span, response in ((missed, first), (hit, second)):
            assert span.attributes is not None
            assert span.attributes[Attr.REQUEST_ID] == response.decision.request_id
            assert span.attributes[Attr.ORG] == "acme"
            assert span.attributes[Attr.GENAI_OPERATION] == "chat"
            assert span.attributes[Attr.GENAI_RESPONSE_MODEL] == "small"
            assert span.attributes[Attr.SAVED_NANO_USD] == response.final.saved.nano_units
            assert span.attributes[Attr.TIER] == "SMALL"
        assert missed.attributes is not None
        assert hit.attributes is not None
        assert (missed.attributes[Attr.CACHE_LEVEL], hit.attributes[Attr.CACHE_LEVEL]) == ("NONE", "NEAR")
        assert missed.attributes[Attr.GENAI_OUTPUT_TOKENS] == 5
        assert missed.attributes[Attr.COST_NANO_USD] == 540
        calls = [span for span in mesh.gateway.spans.all() if span.parent and span.parent.span_id == _id(missed)]
        names = {span.name.rpartition("/")[2] for span in calls}
        assert {"Authorize", "Lookup", "Analyze", "Reserve", "Generate"} <= names
        assert not any(CANARY in str(span.to_json()) for span in mesh.gateway.spans.all())

    async def test_requests_are_counted(self, mesh: World) -> None:
        for _ in range(2):
            await complete(mesh)
        value = mesh.gateway.process.telemetry.metrics.value
        assert value(MetricName.REQUESTS, cache="none", tier="small", model="small") == 1
        assert value(MetricName.REQUESTS, cache="near", tier="small", model="small") == 1
        assert value(MetricName.COST_NANO_USD, cache="none", tier="small", model="small") == 540
        assert value(MetricName.NEAR_CACHE_ENTRIES) == 1


def _id(span: Any) -> int:
    return int(span.get_span_context().span_id)


class TestForgetting:
    async def test_an_invalidation_on_nats_empties_memory(self, mesh: World, nats_url: str) -> None:
        await complete(mesh)
        await mesh.script.stored.wait()
        assert (await complete(mesh)).decision.cache_level == CacheLevel.CACHE_LEVEL_NEAR
        await say(nats_url, "farthing.invalidate.cache", b"org:acme")
        mesh.script.entries.clear()
        await until_level(mesh, CacheLevel.CACHE_LEVEL_NONE)

    async def test_a_revoked_key_ends_at_once(self, mesh: World, nats_url: str) -> None:
        await complete(mesh)
        mesh.script.revoked = True
        await complete(mesh)  # accounting is asked again only when the word goes round
        await say(nats_url, "farthing.invalidate.keys", b"k_acme")
        await until_refused(mesh)

    async def test_a_revoked_key_ends_within_a_second_where_nothing_is_heard(
        self, nats_url: str, tmp_path: Path
    ) -> None:
        async with behind_a_proxy(nats_url, tmp_path) as (mesh, proxy):
            await complete(mesh)
            proxy.partition(Direction.DOWN)  # the connection looks as well as before
            mesh.script.revoked = True
            await until_refused(mesh)
            proxy.heal()

    async def test_a_key_that_was_revoked_while_nobody_listened_is_not_taken_for_good_afterwards(
        self, nats_url: str, tmp_path: Path
    ) -> None:
        async with behind_a_proxy(nats_url, tmp_path) as (mesh, proxy):
            await complete(mesh)
            proxy.down()
            mesh.script.revoked = True
            await say(nats_url, "farthing.invalidate.keys", b"k_acme")
            proxy.heal()
            await until_refused(mesh)

    async def test_who_can_ask_nobody_serves_from_memory(self, nats_url: str, tmp_path: Path) -> None:
        async with behind_a_proxy(nats_url, tmp_path) as (mesh, proxy):
            await complete(mesh)
            proxy.partition(Direction.DOWN)
            mesh.script.errors["Authorize"] = Unavailable("away")
            asked = mesh.script.calls.count("Authorize")
            async with asyncio.timeout(10):
                while mesh.script.calls.count("Authorize") == asked:
                    await complete(mesh)
            decision = (await complete(mesh)).decision
            assert [each.part for each in decision.degradations] == [pb.Degradation.PART_AUTHENTICATION]
            proxy.heal()

    async def test_a_changed_policy_is_followed_at_once(self, mesh: World, nats_url: str) -> None:
        await complete(mesh)
        mesh.script.policy.version = 2
        mesh.script.policy.max_output_tokens = 8
        await say(nats_url, "farthing.invalidate.keys", b"org:acme")
        await until_level(mesh, CacheLevel.CACHE_LEVEL_NONE)
        assert list(mesh.script.jobs.values())[-1].sampling.max_output_tokens == 8


@asynccontextmanager
async def behind_a_proxy(nats_url: str, folder: Path) -> AsyncIterator[tuple[World, FaultProxy]]:
    port = int(nats_url.rsplit(":", 1)[1])
    async with FaultProxy(port) as proxy, world(f"nats://{proxy.address}", folder) as made:
        yield made, proxy


async def until_refused(mesh: World) -> None:
    metrics = mesh.gateway.process.telemetry.metrics
    async with asyncio.timeout(10):
        while not metrics.value(f"{MetricName.RPC_SECONDS}_count", **REFUSED):
            await asyncio.gather(complete(mesh), return_exceptions=True)
    await refused(mesh, R.ERROR_REASON_KEY_INVALID)


async def until_level(mesh: World, level: CacheLevel.ValueType) -> None:
    async with asyncio.timeout(10):
        while (await complete(mesh)).decision.cache_level != level:
            pass


async def say(nats_url: str, subject: str, payload: bytes) -> None:
    client = Client()
    await client.connect(nats_url)
    await client.publish(subject, payload)
    await client.flush()
    await client.close()


class TestWrongInputs:
    @pytest.mark.parametrize("text", ["", "  \n"])
    async def test_an_empty_prompt(self, mesh: World, text: str) -> None:
        await refused(mesh, R.ERROR_REASON_EMPTY_PROMPT, prompt(text))

    async def test_no_prompt_at_all(self, mesh: World) -> None:
        await refused(mesh, R.ERROR_REASON_EMPTY_PROMPT, pb.Prompt())

    async def test_a_prompt_over_a_mebibyte(self, mesh: World) -> None:
        error = await refused(mesh, R.ERROR_REASON_PROMPT_TOO_LARGE, prompt("x" * (1024 * 1024 + 1)))
        assert error.metadata == {"limit_bytes": "1048576", "actual_bytes": "1048577"}

    async def test_a_prompt_of_ten_megabytes_is_more_than_a_message_may_have(self, mesh: World) -> None:
        async with mesh.gateway.channel(signer=None, max_message_bytes=20 * 1024 * 1024) as channel:
            big = World(mesh.script, mesh.gateway, channel, mesh.usage)
            await refused(big, R.ERROR_REASON_MESSAGE_TOO_LARGE, prompt("x" * (10 * 1024 * 1024)))

    @pytest.mark.parametrize(
        "metadata",
        [(), (("authorization", "fk_acme"),), (("authorization", "Bearer fk_nobody"),), (("authorization", ""),)],
    )
    async def test_no_key_a_malformed_one_and_an_unknown_one_look_the_same(self, mesh: World, metadata: Any) -> None:
        error = await refused(mesh, R.ERROR_REASON_KEY_INVALID, metadata=metadata)
        assert error.metadata == {}
        assert "fk_" not in error.message

    async def test_the_scheme_may_be_written_as_one_likes(self, mesh: World) -> None:
        assert (await complete(mesh, metadata=(("authorization", "bearer  fk_acme"),))).text == TEXT

    async def test_an_unknown_model(self, mesh: World) -> None:
        error = await refused(mesh, R.ERROR_REASON_UNKNOWN_MODEL, prompt(model="large-v9"))
        assert error.metadata == {"model": "large-v9"}

    @pytest.mark.parametrize("tokens", [-1, 0, 257])
    async def test_a_wrong_output_limit(self, mesh: World, tokens: int) -> None:
        error = await refused(mesh, R.ERROR_REASON_INVALID_FIELD, prompt(sampling=Sampling(max_output_tokens=tokens)))
        assert [violation.field for violation in error.fields] == ["prompt.sampling.max_output_tokens"]

    async def test_every_wrong_field_is_named_at_once(self, mesh: World) -> None:
        wrong = prompt(tier=9, priority=8, sampling=Sampling(temperature=3.0, top_p=2.0))
        error = await refused(mesh, R.ERROR_REASON_INVALID_FIELD, wrong)
        fields = ["sampling.temperature", "sampling.top_p", "tier", "priority"]
        assert [violation.field for violation in error.fields] == [f"prompt.{field}" for field in fields]

    async def test_a_deadline_without_time_starts_nothing(self, mesh: World) -> None:
        with pytest.raises(FarthingError) as error:
            await complete(mesh, timeout=0.015)
        # The server's word, or the client's own timer: whichever is first.
        assert error.value.reason in (R.ERROR_REASON_DEADLINE_TOO_SHORT, R.ERROR_REASON_DEADLINE_EXCEEDED)
        assert "Generate" not in mesh.script.calls

    async def test_malformed_bytes(self, mesh: World) -> None:
        raw: Any = mesh.channel.unary_unary("/farthing.gateway.v1.GatewayService/Complete")
        with pytest.raises(FarthingError) as error:
            await raw(b"\xff\xff\xff\xff", metadata=KEY)
        assert error.value.reason == R.ERROR_REASON_MALFORMED_MESSAGE

    async def test_an_idempotency_key_with_another_body(self, mesh: World) -> None:
        await complete(mesh, prompt(idempotency_key="i1"))
        await refused(mesh, R.ERROR_REASON_IDEMPOTENCY_MISMATCH, prompt("Another?", idempotency_key="i1"))

    async def test_a_twin_of_a_running_request(self, mesh: World) -> None:
        mesh.script.hold_after = 2
        running = asyncio.ensure_future(complete(mesh, prompt(idempotency_key="i1")))
        await mesh.script.holding.wait()
        await refused(mesh, R.ERROR_REASON_IN_PROGRESS, prompt(idempotency_key="i1"))
        running.cancel()
        await asyncio.wait({running})


class TestCancelling:
    @pytest.mark.parametrize("after", [1, 3])
    async def test_a_caller_who_leaves_stops_the_scheduler_whose_worker_settles_or_voids(
        self, mesh: World, after: int
    ) -> None:
        mesh.script.hold_after = after
        call = GatewayServiceStub(mesh.channel).Generate(pb.GenerateRequest(prompt=prompt()), metadata=KEY)
        async with asyncio.timeout(10):
            async for _ in call:
                break
            await mesh.script.holding.wait()
            call.cancel()
            await mesh.script.cancelled.wait()
        await mesh.gateway.process.close()
        assert mesh.script.released == []

    async def test_a_deadline_in_the_middle_stops_the_scheduler(self, mesh: World) -> None:
        await complete(mesh, prompt("warm up"))
        mesh.script.hold_after = 2
        call = asyncio.ensure_future(complete(mesh, timeout=1.0))
        async with asyncio.timeout(10):
            await mesh.script.cancelled.wait()
        with pytest.raises(FarthingError) as error:
            await call
        assert error.value.reason == R.ERROR_REASON_DEADLINE_EXCEEDED


class TestPeersAway:
    @pytest.mark.parametrize("reason", ["SCHEDULER", "NATS", "TRITON"])
    async def test_what_cannot_run_is_said_and_its_reservation_freed(self, mesh: World, reason: str) -> None:
        errors = {
            "SCHEDULER": Unavailable("away"),
            "NATS": QueueUnavailable("away"),
            "TRITON": FarthingError("no server", reason=R.ERROR_REASON_MODEL_UNAVAILABLE),
        }
        mesh.script.errors["Generate"] = errors[reason]
        await refused(mesh, errors[reason].reason)
        await until(lambda: bool(mesh.script.released))

    async def test_a_lost_worker(self, mesh: World) -> None:
        lost = FarthingError("gone", reason=R.ERROR_REASON_WORKER_LOST)
        mesh.script.errors["Finished"] = saying(lost, Charged.UNKNOWN)
        await refused(mesh, R.ERROR_REASON_WORKER_LOST)
        assert mesh.script.released == []
        mesh.script.errors["Finished"] = saying(lost, Charged.NO)
        await refused(mesh, R.ERROR_REASON_WORKER_LOST)
        await until(lambda: len(mesh.script.released) == 1)

    @pytest.mark.parametrize("error", [StoreUnavailable("redis", retry_after_s=1.0), Overloaded("busy")])
    async def test_redis_away_is_a_declared_miss(self, mesh: World, error: FarthingError) -> None:
        mesh.script.errors["Lookup"] = error
        response = await complete(mesh)
        assert [part.part for part in response.decision.degradations] == [pb.Degradation.PART_CACHE]
        value = mesh.gateway.process.telemetry.metrics.value
        assert value(MetricName.DEGRADED, part="cache") == 1

    async def test_services_that_are_not_there_at_all(self, nats_url: str, tmp_path: Path) -> None:
        nobody = "127.0.0.1:1"
        async with world(nats_url, tmp_path, cache_target=nobody, classifier_target=nobody) as mesh:
            response = await complete(mesh)
            parts = [part.part for part in response.decision.degradations]
            assert parts == [pb.Degradation.PART_CACHE, pb.Degradation.PART_CLASSIFIER]
            assert response.decision.tier == Tier.TIER_MEDIUM
            assert response.text == TEXT
        async with world(nats_url, tmp_path, accounting_target=nobody) as mesh:
            await refused(mesh, R.ERROR_REASON_ACCOUNTING_UNAVAILABLE)
        async with world(nats_url, tmp_path, inference_target=nobody) as mesh:
            await refused(mesh, R.ERROR_REASON_MODEL_UNAVAILABLE)
        async with world(nats_url, tmp_path, scheduler_target=nobody) as mesh:
            await refused(mesh, R.ERROR_REASON_SERVICE_UNAVAILABLE)
            await until(lambda: bool(mesh.script.released))

    @pytest.mark.parametrize(("outcome", "released"), [({"outcome": "unknown"}, True), ({}, False)])
    async def test_what_may_be_held_without_an_answer_is_given_back(
        self, mesh: World, outcome: dict[str, str], released: bool
    ) -> None:
        mesh.script.errors["Reserve"] = StoreUnavailable("redis", metadata={"store": "redis", **outcome})
        await refused(mesh, R.ERROR_REASON_ACCOUNTING_UNAVAILABLE)
        if released:
            await until(lambda: bool(mesh.script.released))
        assert bool(mesh.script.released) is released

    async def test_accounting_away_follows_the_policy(self, mesh: World) -> None:
        mesh.script.errors["Reserve"] = StoreUnavailable("redis")
        error = await refused(mesh, R.ERROR_REASON_ACCOUNTING_UNAVAILABLE)
        assert error.metadata == {"policy": "deny"}
        assert "Generate" not in mesh.script.calls

    async def test_accounting_away_may_mean_serve(self, nats_url: str, tmp_path: Path) -> None:
        async with world(nats_url, tmp_path) as mesh:
            mesh.script.policy.outage_mode = OutageMode.OUTAGE_MODE_ALLOW
            mesh.script.errors["Reserve"] = StoreUnavailable("redis")
            response = await complete(mesh)
            assert [part.part for part in response.decision.degradations] == [pb.Degradation.PART_ACCOUNTING]
            assert response.final.cost.nano_units == 540
            assert next(iter(mesh.script.jobs.values())).charge.reservation_id == ""


async def test_the_service_is_healthy_and_says_what_it_is(mesh: World) -> None:
    async with grpc.aio.insecure_channel(mesh.gateway.target) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"


class TestCascades:
    """The wire: what crosses it, and in which name. The rules are in test_cascade.py."""

    @pytest.fixture(autouse=True)
    def cascading(self, mesh: World) -> None:
        mesh.script.policy.routing.cascade = True
        mesh.script.success = (0.5, 0.8, 0.9)

    async def test_an_accepted_answer_is_one_call_with_its_verdict(self, mesh: World) -> None:
        response = await complete(mesh)
        assert response.text == TEXT
        assert response.decision.buffered
        assert response.decision.tier == Tier.TIER_SMALL
        assert response.decision.routing.reason == pb.ROUTING_REASON_CASCADE
        [call] = response.final.calls
        assert (call.request_id, call.model, call.tier) == (response.decision.request_id, "small", Tier.TIER_SMALL)
        assert call.cost == response.final.cost
        verdict = call.verdict
        assert (verdict.accepted, verdict.threshold, list(verdict.findings)) == (True, 0.7, ["ARITHMETIC_HOLDS"])
        [judged] = mesh.script.judged
        assert (judged.answer, judged.tier, judged.prior_success) == (TEXT, Tier.TIER_SMALL, 0.5)
        assert not judged.HasField("mean_token_logprob")

    async def test_the_judge_hears_how_probable_the_tokens_were_where_the_engine_knows(self, mesh: World) -> None:
        mesh.script.logprob = -0.25
        await complete(mesh)
        [judged] = mesh.script.judged
        assert judged.mean_token_logprob == -0.25

    async def test_an_escalated_answer_streams_and_both_jobs_are_the_callers(self, mesh: World) -> None:
        mesh.script.judgement.acceptable = 0.1
        request = pb.GenerateRequest(prompt=prompt())
        events = [each async for each in GatewayServiceStub(mesh.channel).Generate(request, metadata=KEY)]
        kinds = [each.WhichOneof("event") for each in events]
        assert kinds == ["decision", *["delta"] * len(ANSWER), "final"]
        decision, final = events[0].decision, events[-1].final
        assert (decision.tier, decision.buffered) == (Tier.TIER_MEDIUM, False)
        first, second = final.calls
        assert (first.request_id, second.request_id) == (decision.request_id, f"{decision.request_id}-2")
        assert set(mesh.script.jobs) == {first.request_id, second.request_id}
        charges = [job.charge for job in mesh.script.jobs.values()]
        assert {charge.reservation_id for charge in charges} == set(mesh.script.reservations)
        assert len({charge.attempt.attempt_id for charge in charges}) == 1
        assert {charge.attempt.request_id for charge in charges} == {first.request_id}
        charge = mesh.script.jobs[second.request_id].charge
        assert charge.superseded.request_id == decision.request_id
        assert charge.superseded.counterfactual_usage == USAGE
        assert charge.reservation_id == f"{charge.attempt.attempt_id}-2"
        assert not mesh.script.jobs[first.request_id].charge.HasField("superseded")
        assert final.usage.output_tokens == 2 * USAGE.output_tokens
        assert mesh.script.contexts["Generate"].principal.org == "acme"

    async def test_how_cascades_end_is_counted(self, mesh: World) -> None:
        await complete(mesh)
        mesh.script.errors["Judge"] = Unavailable("away")
        response = await complete(mesh, prompt("another one"))
        assert [each.part for each in response.decision.degradations] == [pb.Degradation.PART_JUDGE]
        value = mesh.gateway.process.telemetry.metrics.value
        assert value(MetricName.CASCADES, ending="accepted") == 1.0
        assert value(MetricName.CASCADES, ending="not_judged") == 1.0


async def test_health_tells_whether_usage_can_be_written_down(mesh: World) -> None:
    value = mesh.gateway.process.telemetry.metrics.value
    await until(lambda: value(MetricName.DEPENDENCY_UP, dependency="outbox") == 1)
    await until(lambda: value(MetricName.DEPENDENCY_UP, dependency="outbox-records") == 1)
