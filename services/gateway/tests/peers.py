"""The gateway's peers as real gRPC servers in this process, which do what a test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext

from farthing.accounting.v1 import admission_service_pb2 as admission
from farthing.accounting.v1 import admission_service_pb2_grpc as admission_rpc
from farthing.accounting.v1 import price_service_pb2 as price
from farthing.accounting.v1 import price_service_pb2_grpc as price_rpc
from farthing.accounting.v1.policy_pb2 import OutageMode, Policy
from farthing.cache.v1 import cache_service_pb2 as cache
from farthing.cache.v1 import cache_service_pb2_grpc as cache_rpc
from farthing.classifier.v1 import classifier_service_pb2 as classifier
from farthing.classifier.v1 import classifier_service_pb2_grpc as classifier_rpc
from farthing.inference.v1 import inference_service_pb2 as inference
from farthing.inference.v1 import inference_service_pb2_grpc as inference_rpc
from farthing.scheduler.v1 import scheduler_service_pb2 as scheduler
from farthing.scheduler.v1 import scheduler_service_pb2_grpc as scheduler_rpc
from farthing.type.v1.generation_pb2 import GenerationChunk, GenerationFinished
from farthing.type.v1.model_pb2 import CacheLevel, FinishReason, Task, Tier
from farthing.type.v1.principal_pb2 import Principal
from farthing.type.v1.usage_pb2 import Quote, TokenUsage
from farthing_gateway.adapters.wire import quote_to_message, tier_to_message
from farthing_gateway.config import GatewaySettings
from farthing_gateway.domain.errors import key_invalid
from farthing_gateway.main import build
from farthing_kit import nats
from farthing_kit.context import RequestContext, require_context
from farthing_kit.errors import FarthingError, NotFound
from farthing_kit.interceptors.client import Channel
from farthing_kit.money import HitPrice, Millionths, NanoUsd, cost
from farthing_kit.server import Service
from farthing_kit.testing.server import RunningProcess, running, serving
from farthing_kit.testing.settings import settings
from farthing_kit.wire import money_to_message, prices_from_message, prices_to_message, usage_from_message
from services.gateway.tests.fakes import quote_of
from services.gateway.tests.values import MODELS, PRICES

ACME = Principal(org="acme", team="search", user="u1", key_id="k_acme")
ANSWER = ("The capital", " of France", " is Paris.")
USAGE = TokenUsage(fresh_input_tokens=12, output_tokens=5)


@dataclass
class Flight:
    """An answer under way."""

    lease: bytes
    text: str = ""
    finished: cache.CachedAnswer | None = None
    gone: bool = False


@dataclass
class Script:
    """What the peers do: `errors` by method name, and the state that tests look at."""

    errors: dict[str, FarthingError] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    contexts: dict[str, RequestContext] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy(
        version=1, default_tier=Tier.TIER_MEDIUM, max_tier=Tier.TIER_LARGE, max_output_tokens=256, cache_enabled=True,
        outage_mode=OutageMode.OUTAGE_MODE_DENY,
    ))  # fmt: skip
    revoked: bool = False
    complexity: float = 0.1
    budget_pace: float = 0.0
    success: tuple[float, float, float] = (0.90, 0.95, 0.98)
    judgement: classifier.JudgeResponse = field(default_factory=lambda: classifier.JudgeResponse(
        acceptable=0.9, findings=[classifier.ANSWER_FINDING_ARITHMETIC_HOLDS], model_version="j1"
    ))  # fmt: skip
    judged: list[classifier.JudgeRequest] = field(default_factory=list)
    answer: tuple[str, ...] = ANSWER
    finish_reason: FinishReason.ValueType = FinishReason.FINISH_REASON_STOP
    logprob: float | None = None
    hold_after: int | None = None
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    reservations: dict[str, admission.ReserveRequest] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    jobs: dict[str, scheduler.GenerateRequest] = field(default_factory=dict)
    entries: dict[tuple[str, bytes], cache.CachedAnswer] = field(default_factory=dict)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    epoch: int = 7
    mark: int = 1
    sharing: bool = False
    model_version: str = "m1"
    flights: dict[tuple[str, bytes, int], Flight] = field(default_factory=dict)
    leases: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    similar: cache.SemanticLookupResponse = field(default_factory=lambda: cache.SemanticLookupResponse(
        level=CacheLevel.CACHE_LEVEL_NONE, miss_reason=cache.MISS_REASON_NO_CANDIDATE
    ))  # fmt: skip
    searches: list[cache.SemanticLookupRequest] = field(default_factory=list)
    reports: list[tuple[bytes, int]] = field(default_factory=list)

    def tell(self) -> None:
        """Wake those who follow."""
        self.news.set()
        self.news = asyncio.Event()

    def enter(self, method: str) -> None:
        """A call came in."""
        self.calls.append(method)
        self.contexts[method] = require_context()
        if method in self.errors:
            raise self.errors[method]


class Accounting(admission_rpc.AdmissionServiceServicer, price_rpc.PriceServiceServicer):
    """Knows one key."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def Authorize(self, request: Any, context: Any) -> admission.AuthorizeResponse:
        self._script.enter("Authorize")
        if request.api_key != "fk_acme" or self._script.revoked:
            raise key_invalid()
        response = admission.AuthorizeResponse(principal=ACME, policy=self._script.policy)
        response.policy.cache_time_to_live.FromSeconds(3600)
        response.time_to_live.FromSeconds(60)
        return response

    async def Reserve(self, request: Any, context: Any) -> admission.ReserveResponse:
        self._script.enter("Reserve")
        self._script.reservations[request.reservation_id] = request
        quote: Quote = quote_to_message(quote_of(request.model))
        worst = _worst(request, quote)
        held = admission.Reservation(
            reservation_id=request.reservation_id,
            amount=money_to_message(worst),
            budget_pace=self._script.budget_pace,
        )
        return admission.ReserveResponse(reservation=held, quote=quote)

    async def Release(self, request: Any, context: Any) -> admission.ReleaseResponse:
        self._script.enter("Release")
        self._script.released.append(request.reservation_id)
        return admission.ReleaseResponse()

    async def ListPrices(self, request: Any, context: Any) -> price.ListPricesResponse:
        self._script.enter("ListPrices")
        return price.ListPricesResponse(prices=[
            price.ModelPrice(model=each.model, tier=tier_to_message(each.tier), prices=prices_to_message(each.prices),
                             price_version=each.version)
            for each in PRICES
        ])  # fmt: skip


def _worst(request: admission.ReserveRequest, quote: Quote) -> NanoUsd:
    """As accounting computes it."""
    whole = cost(usage_from_message(request.estimate), prices_from_message(quote.prices))
    if not request.HasField("hit_price"):
        return whole
    return HitPrice(request.hit_price.policy_version, Millionths(request.hit_price.share_millionths)).of(whole)


class Cache(cache_rpc.CacheServiceServicer):
    """Partitions by the signed context."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def Lookup(self, request: Any, context: Any) -> cache.LookupResponse:
        self._script.enter("Lookup")
        found = None if request.no_cache else self._script.entries.get(_entry(request.key))
        if found is None or _too_old(found, request):
            response = cache.LookupResponse(epoch=self._script.epoch, mark=self._script.mark)
            response.level = CacheLevel.CACHE_LEVEL_NONE
            if request.claim and self._script.sharing:
                response.flight.CopyFrom(self._claimed((*_entry(request.key), self._script.mark)))
            return response
        response = cache.LookupResponse(answer=found, level=CacheLevel.CACHE_LEVEL_EXACT, epoch=self._script.epoch)
        response.time_to_live.FromSeconds(600)
        return response

    async def Store(self, request: Any, context: Any) -> cache.StoreResponse:
        self._script.enter("Store")
        kept = request.epoch == self._script.epoch
        if kept:
            self._script.entries[_entry(request.key)] = request.answer
        self._script.stored.set()
        return cache.StoreResponse(stored=kept)

    async def SemanticLookup(self, request: Any, context: Any) -> cache.SemanticLookupResponse:
        self._script.enter("SemanticLookup")
        self._script.searches.append(request)
        return self._script.similar

    async def ReportOutcome(self, request: Any, context: Any) -> cache.ReportOutcomeResponse:
        self._script.enter("ReportOutcome")
        self._script.reports.append((request.lookup_id, request.agreement))
        return cache.ReportOutcomeResponse(counted=True)

    async def Publish(self, request: Any, context: Any) -> cache.PublishResponse:
        self._script.enter("Publish")
        flight = self._script.flights.get((*_entry(request.key), request.mark))
        if flight is None or flight.lease != request.lease:
            raise NotFound("the lease is lost")
        flight.text += request.text
        if request.HasField("finished"):
            flight.finished = request.finished
        self._script.tell()
        return cache.PublishResponse()

    async def Release(self, request: Any, context: Any) -> cache.ReleaseResponse:
        self._script.enter("Release")
        flight = self._script.flights.get((*_entry(request.key), request.mark))
        if flight is not None and flight.lease == request.lease:
            flight.gone = True
            self._script.tell()
        return cache.ReleaseResponse()

    async def Follow(self, request: Any, context: Any) -> AsyncIterator[cache.FollowResponse]:
        self._script.enter("Follow")
        flight, sent = self._script.flights.get((*_entry(request.key), request.mark)), 0
        while flight is not None:
            news = self._script.news
            if more := flight.text[sent:]:
                sent += len(more)
                yield cache.FollowResponse(text=more)
            elif flight.finished is not None:
                yield cache.FollowResponse(finished=flight.finished)
                return
            elif flight.gone:
                del self._script.flights[*_entry(request.key), request.mark]
                yield cache.FollowResponse(lead=self._claimed((*_entry(request.key), request.mark)))
                return
            else:
                await news.wait()
        raise NotFound("nobody makes it")

    def _claimed(self, entry: tuple[str, bytes, int]) -> cache.Flight:
        if entry in self._script.flights:
            return cache.Flight()
        self._script.leases += 1
        flight = self._script.flights[entry] = Flight(b"lease %d" % self._script.leases)
        return cache.Flight(lease=flight.lease)


def _too_old(found: cache.CachedAnswer, request: cache.LookupRequest) -> bool:
    age = datetime.now(UTC) - found.create_time.ToDatetime(UTC)
    return request.HasField("max_age") and age >= request.max_age.ToTimedelta()


def _entry(key: cache.CacheKey) -> tuple[str, bytes]:
    return require_context().principal.org, key.SerializeToString(deterministic=True)


class Classifier(classifier_rpc.ClassifierServiceServicer):
    """Says what it is told to."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def Analyze(self, request: Any, context: Any) -> classifier.AnalyzeResponse:
        self._script.enter("Analyze")
        small, medium, large = self._script.success
        return classifier.AnalyzeResponse(
            complexity=self._script.complexity,
            task=Task.TASK_QUESTION_ANSWERING,
            expected_output=classifier.OutputLength(p50_tokens=20, p90_tokens=60),
            uncertainty=0.1,
            prompt_tokens=9,
            tiers=[
                classifier.TierOutlook(tier=Tier.TIER_SMALL, success=small, gain=medium - small, score=2.0),
                classifier.TierOutlook(tier=Tier.TIER_MEDIUM, success=medium, gain=large - medium, score=2.8),
                classifier.TierOutlook(tier=Tier.TIER_LARGE, success=large, score=3.7),
            ],
            flags=[classifier.ANALYSIS_FLAG_TRUNCATED],
            stage=classifier.ANALYSIS_STAGE_LEXICAL,
            model_version="m1",
            calibration_version="c1",
            embedding=b"" if request.omit_embedding else bytes(4 * 384),
        )

    async def GetModelInfo(self, request: Any, context: Any) -> classifier.GetModelInfoResponse:
        self._script.enter("GetModelInfo")
        return classifier.GetModelInfoResponse(model_version=self._script.model_version, encoder_sha256="ab" * 32)

    async def Judge(self, request: Any, context: Any) -> classifier.JudgeResponse:
        self._script.enter("Judge")
        self._script.judged.append(request)
        return self._script.judgement


class Scheduler(scheduler_rpc.SchedulerServiceServicer):
    """Answers in pieces; can hold still after some of them."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[scheduler.GenerateResponse]:
        script = self._script
        script.enter("Generate")
        script.jobs[require_context().request_id] = request
        try:
            for number, response in enumerate(self._responses(request)):
                if number == script.hold_after:
                    script.holding.set()
                    await asyncio.Event().wait()
                yield response
        except asyncio.CancelledError:
            script.cancelled.set()
            raise
        if "Finished" in script.errors:
            raise script.errors["Finished"]

    def _responses(self, request: scheduler.GenerateRequest) -> list[scheduler.GenerateResponse]:
        started = scheduler.Started(pool="cpu-local", quantization="INT4")
        logprob = self._script.logprob if request.return_mean_token_logprob else None
        finished = GenerationFinished(finish_reason=self._script.finish_reason, usage=USAGE, mean_token_logprob=logprob)
        chunks = [scheduler.GenerateResponse(chunk=GenerationChunk(text=text)) for text in self._script.answer]
        end = [] if "Finished" in self._script.errors else [scheduler.GenerateResponse(finished=finished)]
        return [scheduler.GenerateResponse(started=started), *chunks, *end]


class Inference(inference_rpc.InferenceServiceServicer):
    """Lists one pool."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def ListPools(self, request: Any, context: Any) -> inference.ListPoolsResponse:
        self._script.enter("ListPools")
        models = [
            inference.PoolModel(name=model.name, tier=tier_to_message(model.tier), weights=model.weights, ready=True,
                                quantization=model.quantization, context_tokens=model.context_tokens)
            for model in MODELS
        ]  # fmt: skip
        state = inference.PoolState.POOL_STATE_ACTIVE
        return inference.ListPoolsResponse(pools=[inference.Pool(name="cpu-local", models=models, state=state)])


def services(script: Script) -> list[Service]:
    """Every peer, to be served by one server. Methods that the gateway never calls answer UNIMPLEMENTED."""
    books: Any = Accounting(script)  # type: ignore[abstract]
    peers: dict[str, tuple[Any, Any]] = {
        "accounting.v1.AdmissionService": (admission_rpc.add_AdmissionServiceServicer_to_server, books),
        "accounting.v1.PriceService": (price_rpc.add_PriceServiceServicer_to_server, books),
        "cache.v1.CacheService": (cache_rpc.add_CacheServiceServicer_to_server, Cache(script)),  # type: ignore[abstract]
        "classifier.v1.ClassifierService": (
            classifier_rpc.add_ClassifierServiceServicer_to_server,
            Classifier(script),
        ),
        "scheduler.v1.SchedulerService": (
            scheduler_rpc.add_SchedulerServiceServicer_to_server,
            Scheduler(script),  # type: ignore[abstract]
        ),
        "inference.v1.InferenceService": (
            inference_rpc.add_InferenceServiceServicer_to_server,
            Inference(script),  # type: ignore[abstract]
        ),
    }
    return [Service(f"farthing.{name}", register, servicer) for name, (register, servicer) in peers.items()]


@asynccontextmanager
async def usage_stream(nats_url: str) -> AsyncIterator[JetStreamContext]:
    """The stream that usage events go to, as accounting makes it."""
    client = Client()
    await client.connect(nats_url)
    js = client.jetstream()
    await nats.ensure_stream(js, nats.Stream(name="USAGE", subjects=["usage.>"], max_bytes=1024 * 1024))
    yield js
    await client.close()


@dataclass
class World:
    """A whole gateway and what it needs around it."""

    script: Script
    gateway: RunningProcess[GatewaySettings]
    channel: Channel
    usage: JetStreamContext


@asynccontextmanager
async def world(nats_url: str, folder: Path, **changes: Any) -> AsyncIterator[World]:
    """Run the gateway's own composition root between real servers; `changes` are settings."""
    script = Script()
    async with AsyncExitStack() as stack:
        usage = await stack.enter_async_context(usage_stream(nats_url))
        peers = await stack.enter_async_context(serving(*services(script)))
        targets = ("accounting", "cache", "classifier", "scheduler", "inference")
        made: dict[str, Any] = {f"{peer}_target": peers.target for peer in targets}
        # Generous budgets: the machine that runs the tests may be busy, and they are not what is tested.
        made |= {"nats_url": nats_url, "outbox_dir": folder / "outbox", "look_up_timeout_ms": 5000,
                 "analyze_timeout_ms": 5000, "accounting_timeout_ms": 5000}  # fmt: skip
        prepared = settings(GatewaySettings, **{**made, **changes})
        gateway = await stack.enter_async_context(running("gateway", prepared, build))
        channel = await stack.enter_async_context(gateway.channel(signer=None))
        yield World(script, gateway, channel, usage)
