"""What accounting costs a request, and how fast it books.

    python -m services.accounting.bench.accounting [--reservations 2000] [--events 20000] [--write]

`script` is the Lua alone against Redis, `use_case` the whole of Reserve without gRPC, `call` as the gateway makes it,
to the service in a process of its own, next to `health`, the cheapest call of a kit server; the reservations fit into
budgets of four scopes. On a busy machine the tenth percentile (p10) says more than the median. Folding is from
JetStream to PostgreSQL (both synced), settled in Redis and acknowledged; half of the events had a reservation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import nats
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import results
from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1.admission_service_pb2_grpc import AdmissionServiceStub
from farthing.accounting.v1.budget_service_pb2_grpc import BudgetServiceStub
from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1 import model_pb2
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote
from farthing.type.v1.usage_pb2 import TokenUsage as UsageMessage
from farthing_accounting.adapters.observing import MetricsObserver
from farthing_accounting.adapters.postgres.budgets import PostgresBudgets
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.adapters.postgres.prices import PostgresPrices
from farthing_accounting.adapters.redis.connection import connect
from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.app.fresh import Fresh
from farthing_accounting.app.holding import THE_LIST, Holding
from farthing_accounting.app.loading import CounterLoading
from farthing_accounting.domain.budgets import Budgets, limits_of
from farthing_accounting.domain.pricing import PriceBook
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import Hold, estimate_of
from farthing_kit import client
from farthing_kit.clock import SystemClock
from farthing_kit.context import ContextSigner
from farthing_kit.context import Principal as Caller
from farthing_kit.local.nats import Nats
from farthing_kit.local.postgres import Postgres
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_open
from farthing_kit.local.redis import Redis
from farthing_kit.telemetry import Metrics
from farthing_kit.testing.server import operator_context, tenant_context
from farthing_kit.usage import TokenUsage
from farthing_kit.wire import money_to_message

SECRET: Final = b"a mesh secret for benches, 32 bytes or more"
ADA: Final = Principal("acme", "search", "ada", "k_00000000000000aa")
USAGE: Final = TokenUsage(fresh_input=600, output=400)
MINUTE: Final = timedelta(minutes=1)
IN_FLIGHT: Final = 32
WARM_UP: Final = 200
PUBLISHED_AT_ONCE: Final = 500
RESULT: Final = Path(__file__).parents[3] / "bench" / "results" / "accounting.json"
NOTES: Final = (
    "Everything on one machine: this process, the service, Redis, NATS (sync_interval always), PostgreSQL (fsync on). "
    "Budgets of money, tokens and concurrency on four scopes. Compare within the run."
)


@dataclass(frozen=True)
class Mesh:
    """The servers, and the service in a process of its own."""

    redis: Redis
    nats: Nats
    postgres: Postgres
    port: int
    service: ChildProcess


async def start(stack: AsyncExitStack, folder: Path) -> Mesh:
    redis = await Redis(folder / "redis", log=folder / "redis.log").start()
    stack.push_async_callback(redis.stop)
    broker = await Nats(folder / "nats", log=folder / "nats.log").start()
    stack.push_async_callback(broker.stop)
    postgres = await Postgres(folder / "postgres", log=folder / "postgres.log").start()
    stack.push_async_callback(postgres.stop)
    port = free_port()
    env = environment(redis, broker, postgres, port, folder)
    argv = [sys.executable, "-m", "farthing_accounting"]
    service = ChildProcess(Spec("accounting", argv, folder / "accounting.log", env=env))
    await service.start(tcp_open(port))
    stack.push_async_callback(service.stop)
    return Mesh(redis, broker, postgres, port, service)


def environment(redis: Redis, broker: Nats, postgres: Postgres, port: int, folder: Path) -> dict[str, str]:
    secrets = {"POSTGRES_DSN": postgres.dsn().encode(), "KEY_PEPPER": SECRET, "MESH_SECRET": SECRET}
    for name, secret in secrets.items():
        (folder / name).write_bytes(secret)
    return {
        **os.environ,
        **{f"FARTHING_{name}_FILE": str(folder / name) for name in secrets},
        "FARTHING_ACCOUNTING_BIND": f"127.0.0.1:{port}",
        "FARTHING_REDIS_URL": redis.url,
        "FARTHING_NATS_URL": broker.url,
        "FARTHING_NATS_MONITOR_URL": broker.monitor_url,
    }


async def set_budgets(channel: Any) -> None:
    stub: Any = BudgetServiceStub(channel)
    scopes = (("ORG", ""), ("TEAM", ADA.team), ("USER", ADA.user), ("KEY", ADA.key_id))
    for kind, name in scopes:
        scope = budget_pb.Scope(kind=budget_pb.ScopeKind.Value(f"SCOPE_KIND_{kind}"), org=ADA.org, id=name)
        budget = budget_pb.Budget(
            scope=scope,
            window=budget_pb.WINDOW_DAY,
            limit=money_to_message(10**15),
            limit_tokens=10**12,
            limit_concurrency=10**6,
        )
        await stub.SetBudget(budget_pb.SetBudgetRequest(idempotency_key=kind, budget=budget))


async def measure(count: int, in_flight: int, once: Callable[[int], Awaitable[Any]]) -> tuple[list[float], float]:
    """Milliseconds of each, and how many a second."""
    found: list[float] = []
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            begin = time.perf_counter()
            await once(number)
            found.append(1000 * (time.perf_counter() - begin))

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return sorted(found), count / (time.perf_counter() - begin)


class Reserving:
    """Reserve at three depths."""

    def __init__(
        self, store: RedisReservations, holding: Holding, quotes: PriceBook, budgets: Budgets, stub: Any
    ) -> None:
        self._store = store
        self._holding = holding
        self._quote = quotes.quote("small")
        self._budgets = budgets
        self._stub = stub

    async def script(self, name: str) -> None:
        limits = limits_of(ADA, self._budgets.budgets, datetime.now(UTC))
        estimate = estimate_of(USAGE, self._quote, "estimate")
        await self._store.reserve(Hold(name, ADA, estimate, MINUTE, "small", 1, name), limits, self._budgets.version)

    async def use_case(self, name: str) -> None:
        await self._holding.reserve(ADA, name, "small", USAGE, MINUTE)

    async def call(self, name: str) -> None:
        estimate = UsageMessage(fresh_input_tokens=USAGE.fresh_input, output_tokens=USAGE.output)
        request = admission_pb.ReserveRequest(reservation_id=name, model="small", estimate=estimate)
        request.time_to_live.seconds = 60
        await self._stub.Reserve(request)


async def reserving(mesh: Mesh, count: int, operator: Any, tenant: Any) -> dict[str, float]:
    await set_budgets(operator)
    health: Any = health_pb2_grpc.HealthStub(tenant)
    database = Database(mesh.postgres.dsn())
    redis = connect(mesh.redis.url, password=None, connections=IN_FLIGHT, timeout_s=2)
    async with database, redis:
        store, ledger, clock = RedisReservations(redis), PostgresLedger(database), SystemClock()
        prices, limits = PostgresPrices(database), PostgresBudgets(database)
        kept: Any = {"fresh_for_s": 5.0, "stale_for_s": 600.0, "max_entries": 10}
        book = Fresh[str, PriceBook](lambda _: prices.book(), clock, **kept)
        budgets = Fresh(limits.of_org, clock, **kept)
        observer = MetricsObserver(Metrics())
        holding = Holding(store, CounterLoading(ledger, store), budgets, book, clock, observer)
        reserve = Reserving(
            store, holding, await book.get(THE_LIST), await budgets.get(ADA.org), AdmissionServiceStub(tenant)
        )

        async def ping(_: str) -> None:
            await health.Check(health_pb2.HealthCheckRequest())

        depths = {"script": reserve.script, "use_case": reserve.use_case, "call": reserve.call, "health": ping}
        return await depth_figures(depths, count, redis)


async def depth_figures(depths: dict[str, Any], count: int, redis: Any) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, once in depths.items():
        for in_flight in (1, IN_FLIGHT):
            prefix = f"{name}-{in_flight}"
            await measure(WARM_UP, in_flight, lambda n, p=prefix, f=once: f(f"warm-{p}-{n}"))  # type: ignore[misc]
            found, rate = await measure(count, in_flight, lambda n, p=prefix, f=once: f(f"{p}-{n}"))  # type: ignore[misc]
            if in_flight == 1:
                figures[f"reserve_{name}_p10_ms"] = round(found[len(found) // 10], 3)
                figures[f"reserve_{name}_p50_ms"] = round(statistics.median(found), 3)
                figures[f"reserve_{name}_p99_ms"] = round(found[int(0.99 * len(found))], 3)
            else:
                figures[f"reserve_{name}_rps_c{IN_FLIGHT}"] = round(rate)
    return {name.replace("reserve_health", "health"): value for name, value in figures.items()}


def event(number: int, quote: Quote) -> UsageEvent:
    usage = UsageMessage(fresh_input_tokens=500, output_tokens=200)
    made = UsageEvent(
        request_id=f"q{number}",
        principal=PrincipalMessage(org=ADA.org, team=ADA.team, user=ADA.user, key_id=ADA.key_id),
        reservation_id=f"script-{IN_FLIGHT}-{number}" if number % 2 else "",
        cache_level=model_pb2.CACHE_LEVEL_NONE,
        tier=model_pb2.TIER_SMALL,
        task=model_pb2.TASK_CHAT,
        pool="cpu-local",
        quantization="int4",
        usage=usage,
        counterfactual_usage=usage,
        quote=quote,
        finish_reason=model_pb2.FINISH_REASON_STOP,
        tags={"feature": "help"},
    )
    made.end_time.GetCurrentTime()
    return made


async def folding(mesh: Mesh, count: int, tenant: Any) -> dict[str, float]:
    """The rate at which a backlog is worked off: the service stands still while it builds up."""
    request = admission_pb.ReserveRequest(reservation_id="quote", model="small")
    request.estimate.output_tokens = 1
    request.time_to_live.seconds = 60
    stub: Any = AdmissionServiceStub(tenant)
    quote = (await stub.Reserve(request)).quote
    broker = await nats.connect(mesh.nats.url)
    mesh.service.signal(signal.SIGSTOP)
    await publish(broker.jetstream(), count, quote)
    await broker.close()
    mesh.service.signal(signal.SIGCONT)
    begin = time.perf_counter()
    async with await psycopg.AsyncConnection.connect(mesh.postgres.dsn(), autocommit=True) as connection:
        while await booked(connection) < count:  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.05)
    return {"fold_events_per_s": round(count / (time.perf_counter() - begin))}


async def booked(connection: Any) -> int:
    row = await (await connection.execute("SELECT count(*) FROM accounting.transactions")).fetchone()
    return int(row[0])


async def publish(js: Any, count: int, quote: Quote) -> None:
    for start_at in range(0, count, PUBLISHED_AT_ONCE):
        for number in range(start_at, min(start_at + PUBLISHED_AT_ONCE, count)):
            await js.publish_async("usage.acme", event(number, quote).SerializeToString())
        await js.publish_async_completed()


async def run(folder: Path, reservations: int, events: int, write: bool) -> None:
    async with AsyncExitStack() as stack:
        mesh = await start(stack, folder)
        signer, target = ContextSigner(SECRET), f"127.0.0.1:{mesh.port}"
        ada = Caller(ADA.org, ADA.team, ADA.user, ADA.key_id)
        operator = await stack.enter_async_context(client.channel(target, signer=signer, identity=operator_context()))
        tenant = await stack.enter_async_context(
            client.channel(target, signer=signer, identity=tenant_context(principal=ada))
        )
        figures = await reserving(mesh, reservations, operator, tenant)
        figures |= await folding(mesh, events, tenant)
    print(json.dumps(figures, indent=2))
    if write:
        results.write("accounting", figures, seed=0, notes=NOTES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--reservations", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="write bench/results/accounting.json")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    asyncio.run(run(folder, args.reservations, args.events, args.write))


if __name__ == "__main__":
    main()
