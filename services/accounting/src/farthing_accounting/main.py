"""The composition root of accounting."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from nats.aio.client import Client
from redis.asyncio import Redis

from farthing.accounting.v1.admission_service_pb2_grpc import add_AdmissionServiceServicer_to_server
from farthing.accounting.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from farthing.accounting.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from farthing.accounting.v1.ledger_service_pb2_grpc import add_LedgerServiceServicer_to_server
from farthing.accounting.v1.price_service_pb2_grpc import add_PriceServiceServicer_to_server
from farthing.accounting.v1.report_service_pb2_grpc import add_ReportServiceServicer_to_server
from farthing_accounting.adapters import price_file
from farthing_accounting.adapters.nats.announcing import NatsAnnouncer
from farthing_accounting.adapters.nats.progress import JetStreamProgress
from farthing_accounting.adapters.nats.usage import JetStreamUsage, StreamLimits
from farthing_accounting.adapters.observing import MetricsObserver
from farthing_accounting.adapters.postgres.budgets import PostgresBudgets
from farthing_accounting.adapters.postgres.database import Database, Limits
from farthing_accounting.adapters.postgres.keys import PostgresKeys
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.adapters.postgres.migrate import MigrationError, migrate
from farthing_accounting.adapters.postgres.policies import PostgresPolicies
from farthing_accounting.adapters.postgres.prices import PostgresPrices
from farthing_accounting.adapters.postgres.tenants import PostgresTenants
from farthing_accounting.adapters.postgres.unsettled import PostgresUnsettled
from farthing_accounting.adapters.redis.connection import (
    EvictingRedis,
    answers,
    connect,
    require_no_eviction,
    takes_writes,
)
from farthing_accounting.adapters.redis.guard import guarded
from farthing_accounting.adapters.redis.reservations import Keep, RedisReservations
from farthing_accounting.app.authorizing import Authorizing
from farthing_accounting.app.awaiting import Awaiting
from farthing_accounting.app.budgeting import Budgeting
from farthing_accounting.app.erasing import Erasing
from farthing_accounting.app.folding import Folding
from farthing_accounting.app.fresh import Fresh
from farthing_accounting.app.holding import Holding
from farthing_accounting.app.issuing import Issuing
from farthing_accounting.app.loading import CounterLoading
from farthing_accounting.app.pricing import Pricing
from farthing_accounting.app.reading import Reading
from farthing_accounting.config import AccountingSettings
from farthing_accounting.domain.budgets import Budgets
from farthing_accounting.domain.keys import KeyHasher
from farthing_accounting.domain.pricing import PriceBook
from farthing_accounting.handler.admission import AdmissionHandler
from farthing_accounting.handler.books import LedgerHandler, ReportHandler
from farthing_accounting.handler.budgets import BudgetHandler
from farthing_accounting.handler.keys import KeyHandler
from farthing_accounting.handler.prices import PriceHandler
from farthing_kit import nats as kit_nats
from farthing_kit.breaker import Breaker
from farthing_kit.context import Role
from farthing_kit.errors import StoreUnavailable
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import ANY_ROLE, MESH_ONLY, ServerError, Service
from farthing_kit.store_guard import StoreGuard

SERVICE: Final = "accounting"
OPERATORS: Final = frozenset({Role.OPERATOR})
START_POLL_S: Final = 0.2

Build = Process[AccountingSettings]


@dataclass(frozen=True, slots=True)
class Stores:
    """What was opened, and what it is used through."""

    database: Database
    redis: Redis
    guard: StoreGuard
    nats: Client
    reservations: RedisReservations
    ledger: PostgresLedger
    prices: PostgresPrices
    budgets: PostgresBudgets
    usage: JetStreamUsage
    unsettled: PostgresUnsettled
    awaiting: Awaiting
    observer: MetricsObserver


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept in memory, for a bounded time."""

    prices: Fresh[str, PriceBook]
    budgets: Fresh[str, Budgets]


async def build(process: Build) -> None:
    """Open the stores, wire the use cases, declare the services, start what runs in the background."""
    try:
        hasher = KeyHasher(process.settings.key_pepper.reveal())
        stores = await _open(process)
        await _prepare(process, stores)
    except (MigrationError, EvictingRedis, price_file.PriceFileError, ValueError) as error:
        raise ServerError(str(error)) from error
    _serve(process, stores, hasher)
    _start(process, stores)


async def _open(process: Build) -> Stores:
    settings = process.settings
    dsn, breaker = settings.postgres_dsn.reveal().decode(), _breaker(settings)
    database = await process.enter(Database(dsn, limits=_limits(settings), breaker=breaker, clock=process.clock))
    redis = await process.enter(_redis(settings))
    wait_s = settings.start_wait_ms / 1000
    nats = await process.enter(
        kit_nats.connect(
            settings.nats_url, name=SERVICE, telemetry=process.telemetry, connect_timeout_s=wait_s, died=process.crash
        )
    )
    observer = MetricsObserver(process.telemetry.metrics)
    keep = Keep(closed=timedelta(milliseconds=settings.closed_keep_ms))
    guard, ledger, unsettled = _guard(process), PostgresLedger(database), PostgresUnsettled(database)
    grace, window = (timedelta(milliseconds=ms) for ms in (settings.awaiting_ms, settings.recovery_ms))
    awaiting = Awaiting(JetStreamProgress(nats, process.clock), unsettled, process.clock, grace=grace)
    return Stores(
        database=database,
        redis=redis,
        guard=guard,
        nats=nats,
        reservations=RedisReservations(
            redis,
            keep=keep,
            on_expired=observer.expired,
            lapse=awaiting.lapse,
            window=window,
            ledger_life=lambda: ledger.life,
            guard=guard,
        ),
        unsettled=unsettled,
        awaiting=awaiting,
        ledger=ledger,
        prices=PostgresPrices(database),
        budgets=PostgresBudgets(database),
        usage=JetStreamUsage(
            nats, settings.nats_monitor_url, process.telemetry, process.clock, _stream_limits(settings)
        ),
        observer=observer,
    )


async def _prepare(process: Build, stores: Stores) -> None:
    """Bring the stores to what this release needs; any of them may still be starting."""
    await _until(process, "postgresql", stores.database.ping)
    for name in await migrate(stores.database):
        process.log.info("migrated", name=name)
    await stores.ledger.look()
    await _until(process, "redis", lambda: answers(stores.redis, stores.guard))
    await require_no_eviction(stores.redis, stores.guard)
    await stores.reservations.look()
    await stores.usage.open()
    process.on_close(stores.usage.close)
    if process.settings.prices_file is not None:
        for model in await stores.prices.seed(price_file.read(process.settings.prices_file)):
            process.log.info("took a price from the file", model=model)


def _serve(process: Build, stores: Stores, hasher: KeyHasher) -> None:
    kept = _kept(process, stores)
    loading = CounterLoading(stores.ledger, stores.reservations)
    announcer = NatsAnnouncer(stores.nats)
    keys = PostgresKeys(stores.database)
    time_to_live = timedelta(milliseconds=process.settings.authorize_ttl_ms)
    authorizing = Authorizing(keys, hasher, process.clock, time_to_live=time_to_live)
    holding = Holding(stores.reservations, loading, kept.budgets, kept.prices, process.clock, stores.observer)
    issuing = Issuing(keys, hasher, announcer, process.clock, secrets.token_bytes)
    policies = PostgresPolicies(stores.database)
    budgeting = Budgeting(
        stores.budgets, policies, stores.reservations, loading, kept.budgets, announcer, process.clock
    )
    pricing, reading = Pricing(stores.prices, kept.prices), Reading(stores.ledger)
    erasing = Erasing(PostgresTenants(stores.database), stores.usage, announcer, process.clock)
    process.serve(*_services(authorizing, holding, KeyHandler(issuing, erasing), budgeting, pricing, reading))


def _services(
    authorizing: Authorizing,
    holding: Holding,
    keys: KeyHandler,
    budgeting: Budgeting,
    pricing: Pricing,
    reading: Reading,
) -> list[Service]:
    """Who may call what."""
    package = "farthing.accounting.v1"
    return [
        Service(
            f"{package}.AdmissionService",
            add_AdmissionServiceServicer_to_server,
            AdmissionHandler(authorizing, holding),
            roles=ANY_ROLE,
            methods={"Authorize": MESH_ONLY},
        ),
        Service(f"{package}.KeyService", add_KeyServiceServicer_to_server, keys, roles=OPERATORS),
        Service(
            f"{package}.BudgetService", add_BudgetServiceServicer_to_server, BudgetHandler(budgeting), roles=OPERATORS
        ),
        Service(
            f"{package}.PriceService",
            add_PriceServiceServicer_to_server,
            PriceHandler(pricing),
            roles=ANY_ROLE,
            methods={"SetPrice": OPERATORS},
        ),
        Service(
            f"{package}.LedgerService",
            add_LedgerServiceServicer_to_server,
            LedgerHandler(reading),
            roles=ANY_ROLE,
            methods={"Verify": OPERATORS},
        ),
        Service(
            f"{package}.ReportService", add_ReportServiceServicer_to_server, ReportHandler(reading), roles=ANY_ROLE
        ),
    ]


def _start(process: Build, stores: Stores) -> None:
    clock, unsettled = process.clock, stores.unsettled
    folding = Folding(stores.usage, stores.ledger, stores.reservations, unsettled, clock, stores.observer)
    process.start("fold usage", folding.run())
    process.start("settle late", folding.settle_late())
    process.start("look after the usage stream", stores.usage.keep_house())
    process.start("watch redis", _watch(process, "redis", lambda: _redis_well(stores)))
    lasts_s = process.settings.limits_stale_ms / 1000
    process.start("watch postgresql", _watch(process, "postgresql", lambda: _looked_at(stores), lasts_s))
    process.start("watch nats", _watch(process, "nats", lambda: _connected(stores.nats)))
    process.start("watch the books", _watch(process, "books", stores.awaiting.look))
    process.on_drain(folding.stop)


async def _watch(process: Build, store: str, ask: Callable[[], Awaitable[bool]], lasts_s: float = math.inf) -> None:
    """Say whether a store answers; each is watched apart, so that none that hangs keeps back word of the others. One
    that does not is asked again soon: that it is back is not left for a caller to find out, who would wait, or be
    refused. None is required for serving, since each call that needs one that is away says so and others go on; but
    after `lasts_s` without it, what is in memory will not do."""
    settings, clock = process.settings, process.clock
    seen_at = clock.monotonic()
    while True:
        up = await ask()
        now = clock.monotonic()
        seen_at = now if up else seen_at
        required = up or now - seen_at >= lasts_s
        await process.report(store, up, required=required)
        await clock.sleep((settings.watch_interval_ms if up else settings.breaker_pause_ms) / 1000)


async def _redis_well(stores: Stores) -> bool:
    """Whether it takes writes; what it lost, and this replica made, is brought back."""
    if not await takes_writes(stores.redis, stores.guard):
        return False
    try:
        await stores.reservations.look()
    except StoreUnavailable:
        return False
    return True


async def _looked_at(stores: Stores) -> bool:
    """Whether PostgreSQL answers; and that it was not restored from a backup, or that this is known."""
    if not await stores.database.ping():
        return False
    with contextlib.suppress(StoreUnavailable):
        await stores.ledger.look()
    return True


async def _connected(nats: Client) -> bool:
    return nats.is_connected


def _kept(process: Build, stores: Stores) -> Kept:
    settings = process.settings
    fresh_s, stale_s = settings.limits_fresh_ms / 1000, settings.limits_stale_ms / 1000

    async def book(_: str) -> PriceBook:
        return await stores.prices.book()

    return Kept(
        prices=Fresh(book, process.clock, fresh_for_s=fresh_s, stale_for_s=stale_s, max_entries=1),
        budgets=Fresh(
            stores.budgets.of_org,
            process.clock,
            fresh_for_s=fresh_s,
            stale_for_s=stale_s,
            max_entries=settings.limits_entries,
        ),
    )


async def _until(process: Build, store: str, ready: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a store answers: parts may be started in any order."""
    end = process.clock.monotonic() + process.settings.start_wait_ms / 1000
    while not await ready():
        if process.clock.monotonic() >= end:
            raise StoreUnavailable(f"{store} does not answer; start it, or check its address")
        await process.clock.sleep(START_POLL_S)


def _redis(settings: AccountingSettings) -> Redis:
    password = settings.redis_password.reveal().decode() if settings.redis_password else None
    return connect(
        settings.redis_url,
        password=password,
        connections=settings.redis_connections,
        timeout_s=settings.redis_timeout_ms / 1000,
    )


def _guard(process: Build) -> StoreGuard:
    settings = process.settings
    return guarded(_breaker(settings), process.clock, timeout_s=settings.redis_timeout_ms / 1000)


def _breaker(settings: AccountingSettings) -> Breaker:
    return Breaker(settings.breaker_failures, settings.breaker_pause_ms / 1000)


def _limits(settings: AccountingSettings) -> Limits:
    statement_s = settings.statement_timeout_ms / 1000
    return Limits(
        connections=settings.postgres_connections,
        waiting=settings.postgres_waiting,
        statement_s=statement_s,
        transaction_s=2 * statement_s,
    )


def _stream_limits(settings: AccountingSettings) -> StreamLimits:
    return StreamLimits(
        max_bytes=settings.usage_max_bytes,
        dead_bytes=settings.dead_max_bytes,
        dead_per_org=settings.dead_per_org,
        replicas=settings.usage_replicas,
        batch=settings.fold_batch,
        batch_wait_s=settings.fold_wait_ms / 1000,
        max_unacknowledged=16 * settings.fold_batch,
    )


def main() -> int:
    """Run until asked to stop; returns the exit code."""
    return run(SERVICE, AccountingSettings, build)
