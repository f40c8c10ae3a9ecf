"""The composition root of the gateway."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass

from nats.aio.client import Client

from farthing.gateway.v1.gateway_service_pb2_grpc import add_GatewayServiceServicer_to_server
from farthing.gateway.v1.outcome_service_pb2_grpc import add_OutcomeServiceServicer_to_server
from farthing_gateway.adapters import accounting, classifier, inference
from farthing_gateway.adapters.accounting import GrpcAccounting
from farthing_gateway.adapters.cache import GrpcCache, Timeouts
from farthing_gateway.adapters.classifier import GrpcClassifier
from farthing_gateway.adapters.inference import GrpcPools
from farthing_gateway.adapters.invalidation import NatsInvalidation
from farthing_gateway.adapters.observer import TelemetryObserver
from farthing_gateway.adapters.outcome_stream import Bounds, open_outcomes
from farthing_gateway.adapters.scheduler import GrpcScheduler
from farthing_gateway.adapters.usage import OutboxUsageBook
from farthing_gateway.app.admissions import Admissions
from farthing_gateway.app.authentication import Authentication
from farthing_gateway.app.background import Background
from farthing_gateway.app.caches import Caches, Memory
from farthing_gateway.app.cascade import Cascades
from farthing_gateway.app.comparison import Comparisons
from farthing_gateway.app.flights import Flights, Pace
from farthing_gateway.app.gateway import Gateway
from farthing_gateway.app.generation import Calls
from farthing_gateway.app.idempotency import Idempotency
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.learning import Learning
from farthing_gateway.app.models import Models
from farthing_gateway.app.one_request import OneRequest
from farthing_gateway.app.outcomes import Outcomes
from farthing_gateway.app.refresh import Refreshes
from farthing_gateway.app.replay import Replay
from farthing_gateway.app.routing import Router
from farthing_gateway.app.shadow import Shadows
from farthing_gateway.config import GatewaySettings
from farthing_gateway.domain.acceptance import Limits
from farthing_gateway.domain.cascade import Band
from farthing_gateway.domain.claims import WINDOW_S, Claims
from farthing_gateway.domain.grace import Grace
from farthing_gateway.domain.grants import Grants
from farthing_gateway.domain.nearcache import NearCache
from farthing_gateway.domain.pace import Paces
from farthing_gateway.domain.routing import Thresholds
from farthing_gateway.domain.sessions import Sessions
from farthing_gateway.handler import GatewayHandler
from farthing_gateway.outcome_handler import OutcomeHandler
from farthing_gateway.ports import OutcomeBook, UsageBook
from farthing_kit import nats
from farthing_kit.context import Role
from farthing_kit.lifecycle import Process, run
from farthing_kit.outbox import open_outbox
from farthing_kit.server import ANYONE, Service
from farthing_kit.telemetry import MetricName

SERVICE = "farthing.gateway.v1.GatewayService"
OUTCOME_SERVICE = "farthing.gateway.v1.OutcomeService"
OPERATORS_LIST = {"ListOutcomes": frozenset({Role.OPERATOR})}
DAY_S = 86_400.0
GatewayProcess = Process[GatewaySettings]


@dataclass(frozen=True)
class Peers:
    """The other services, as the gateway needs them."""

    accounting: GrpcAccounting
    cache: GrpcCache
    classifier: GrpcClassifier
    scheduler: GrpcScheduler
    pools: GrpcPools
    usage: UsageBook


@dataclass(frozen=True)
class Memories:
    """What this process remembers. All of it is bounded, and none of it is the truth."""

    near: Memory
    grants: Grants
    line: NatsInvalidation
    claims: Claims
    repetitions: NearCache


async def build(process: GatewayProcess) -> None:
    """Peers, memories, the catalogue, the way of a request, the service."""
    client = await process.enter(
        nats.connect(process.settings.nats_url, name="gateway", telemetry=process.telemetry, died=process.crash)
    )
    usage = await _usage(process, client)
    book = await process.enter(open_outcomes(client, process.telemetry, _bounds(process.settings), died=process.crash))
    peers = _peers(process, usage)
    memories = await _memories(process, client)
    models = _models(process, peers)
    gateway = _gateway(process, peers, memories, models, book)
    door = GatewayHandler(gateway)
    outcomes = OutcomeHandler(Outcomes(gateway.authentication, book, peers.cache))
    process.serve(
        Service(SERVICE, add_GatewayServiceServicer_to_server, door, roles=ANYONE, admit=door.admit),
        Service(
            OUTCOME_SERVICE,
            add_OutcomeServiceServicer_to_server,
            outcomes,
            roles=ANYONE,
            methods=OPERATORS_LIST,
            admit=outcomes.admit,
        ),
    )


def _peers(process: GatewayProcess, usage: UsageBook) -> Peers:
    settings = process.settings
    seconds = 1 / 1000
    books = process.channel(settings.accounting_target, retry=accounting.RETRIED)
    judge = process.channel(settings.classifier_target, retry=classifier.RETRIED)
    pools = process.channel(settings.inference_target, retry=inference.RETRIED)
    return Peers(
        accounting=GrpcAccounting(books, timeout_s=settings.accounting_timeout_ms * seconds),
        cache=GrpcCache(
            process.channel(settings.cache_target),
            Timeouts(
                look_up=settings.look_up_timeout_ms * seconds,
                search=settings.search_timeout_ms * seconds,
                store=settings.store_timeout_ms * seconds,
            ),
        ),
        classifier=GrpcClassifier(
            judge,
            timeout_s=settings.analyze_timeout_ms * seconds,
            judge_timeout_s=settings.judge_timeout_ms * seconds,
        ),
        scheduler=GrpcScheduler(process.channel(settings.scheduler_target)),
        pools=GrpcPools(pools, timeout_s=settings.list_timeout_ms * seconds),
        usage=usage,
    )


async def _usage(process: GatewayProcess, client: Client) -> UsageBook:
    settings = process.settings
    outbox = await process.enter(
        open_outbox(
            settings.outbox_dir,
            client.jetstream(),
            process.telemetry,
            fsync=settings.outbox_fsync,
            died=process.crash,
        )
    )
    process.start("watch the outbox", outbox.watch(process.report, process.clock))
    return OutboxUsageBook(outbox)


def _bounds(settings: GatewaySettings) -> Bounds:
    return Bounds(
        pending=settings.foretold_pending,
        decisions_bytes=settings.decisions_bytes,
        outcomes_bytes=settings.outcomes_bytes,
        age_s=settings.outcome_days * DAY_S,
    )


async def _memories(process: GatewayProcess, client: Client) -> Memories:
    settings = process.settings
    near = NearCache(
        max_bytes=settings.near_cache_bytes,
        max_entry_bytes=settings.near_cache_entry_bytes,
        time_to_live_s=settings.near_cache_ttl_ms / 1000,
    )
    repetitions = NearCache(
        max_bytes=settings.idempotency_bytes, max_entry_bytes=settings.idempotency_bytes, time_to_live_s=WINDOW_S
    )
    grants = Grants(limit=settings.keys, stale_s=settings.key_stale_ms / 1000, refusal_s=settings.key_refused_ms / 1000)
    line = NatsInvalidation(client, grants, (near, repetitions), process.clock)
    await line.listen(process.telemetry)
    process.start("hearing", line.keep_current())
    return Memories(Memory(near, line), grants, line, Claims(limit=settings.idempotency_keys), repetitions)


def _models(process: GatewayProcess, peers: Peers) -> Models:
    refresh_s = process.settings.catalogue_refresh_ms / 1000
    models = Models(peers.pools, peers.accounting, clock=process.clock, refresh_s=refresh_s, log=process.log)
    process.start("catalogue", models.refresh_forever())
    return models


def _router(process: GatewayProcess, paces: Paces) -> Router:
    settings = process.settings
    thresholds = Thresholds(settings.unsure_above, settings.practically_equal)
    return Router(process.clock, thresholds, Sessions(limit=settings.sessions), paces)


def _band(settings: GatewaySettings) -> Band:
    return Band(
        low=settings.cascade_low,
        high=settings.cascade_high,
        begin_s=settings.cascade_begin_ms / 1000,
        escalate_s=settings.cascade_escalate_ms / 1000,
    )


def _learning(
    process: GatewayProcess, peers: Peers, models: Models, calls: Calls, book: OutcomeBook, background: Background
) -> Learning:
    counted = process.telemetry.metrics.counter(MetricName.SHADOWS, "Shadows, by what became of them.", ("result",))
    shadows = Shadows(
        calls,
        models,
        peers.classifier,
        book,
        process.clock,
        process.log,
        tally=lambda result: counted.labels(result).inc(),
        at_once=process.settings.shadows,
        timeout_s=process.settings.shadow_ms / 1000,
    )
    process.on_close(shadows.drain)
    return Learning(book, shadows, Comparisons(peers.cache, peers.classifier, background))


def _flights(process: GatewayProcess, peers: Peers, background: Background, observer: TelemetryObserver) -> Flights:
    settings = process.settings
    pace = Pace(
        gather_s=settings.publish_gather_ms / 1000,
        beat_s=settings.publish_beat_ms / 1000,
        silence_s=settings.follow_silence_ms / 1000,
    )
    flights = Flights(peers.cache, background, observer, pace)
    process.on_close(flights.drain)
    return flights


def _refreshes(
    process: GatewayProcess, calls: Calls, models: Models, judgement: Judgement, caches: Caches, flights: Flights
) -> Refreshes:
    refreshes = Refreshes(
        calls,
        models,
        judgement,
        caches,
        flights,
        process.clock,
        process.log,
        at_once=process.settings.refreshes,
        timeout_s=process.settings.refresh_ms / 1000,
    )
    process.on_close(refreshes.drain)
    return refreshes


def _gateway(process: GatewayProcess, peers: Peers, memories: Memories, models: Models, book: OutcomeBook) -> Gateway:
    settings, clock = process.settings, process.clock
    observer = TelemetryObserver(process.telemetry.metrics)
    background = Background(limit=settings.background_limit, timeout_s=settings.background_ms / 1000, log=process.log)
    process.on_close(background.drain)
    paces, grace = Paces(limit=settings.keys), Grace(quiet_s=settings.grace_quiet_ms / 1000)
    admissions = Admissions(peers.accounting, grace, background, clock, paces)
    calls = Calls(admissions, peers.scheduler, clock)
    judgement = Judgement(peers.classifier, hedge_s=settings.analyze_hedge_ms / 1000)
    caches = Caches(memories.near, peers.cache, peers.cache, background, clock, observer)
    flights = _flights(process, peers, background, observer)
    way = OneRequest(
        caches=caches,
        flights=flights,
        refreshes=_refreshes(process, calls, models, judgement, caches, flights),
        judgement=judgement,
        models=models,
        router=_router(process, paces),
        calls=calls,
        cascades=Cascades(calls, peers.classifier, observer, _band(settings)),
        replay=Replay(models, admissions, peers.usage, observer, clock),
        learning=_learning(process, peers, models, calls, book, background),
        observer=observer,
        clock=clock,
    )
    return Gateway(
        authentication=Authentication(
            peers.accounting, memories.grants, memories.line, clock, salt=secrets.token_bytes(32)
        ),
        limits=Limits(),
        idempotency=Idempotency(memories.claims, memories.repetitions, clock),
        way=way,
        models=models,
        observer=observer,
        clock=clock,
    )


def main() -> int:
    """Run until stopped; the exit code."""
    return run("gateway", GatewaySettings, build)


if __name__ == "__main__":
    sys.exit(main())
