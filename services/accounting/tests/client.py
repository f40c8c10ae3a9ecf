"""A client of the running service, in every role."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Self

import nats
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client

from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.accounting.v1.admission_service_pb2_grpc import AdmissionServiceStub
from farthing.accounting.v1.budget_service_pb2_grpc import BudgetServiceStub
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceStub
from farthing.accounting.v1.ledger_service_pb2_grpc import LedgerServiceStub
from farthing.accounting.v1.price_service_pb2_grpc import PriceServiceStub
from farthing.accounting.v1.report_service_pb2_grpc import ReportServiceStub
from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1 import model_pb2
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote, TokenUsage
from farthing_accounting.config import AccountingSettings
from farthing_kit.context import Principal, RequestContext, Role, service_context
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import RunningProcess, operator_context, tenant_context
from farthing_kit.wire import money_to_message

ADA = Principal("acme", "search", "ada", "k_00000000000000aa")
PATIENCE_S = 20.0


def tenant(principal: Principal = ADA) -> RequestContext:
    return tenant_context(principal=principal)


def seconds(count: float) -> Duration:
    found = Duration()
    found.FromNanoseconds(int(count * 1_000_000_000))
    return found


def once() -> str:
    return secrets.token_hex(8)


async def eventually(holds: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until something is true; what it is then."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await holds()):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
    return found


class Stubs:
    """Every service, called in one role."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.admission: Any = AdmissionServiceStub(channel)
        self.budgets: Any = BudgetServiceStub(channel)
        self.keys: Any = KeyServiceStub(channel)
        self.ledger: Any = LedgerServiceStub(channel)
        self.prices: Any = PriceServiceStub(channel)
        self.reports: Any = ReportServiceStub(channel)


class Accounting:
    """A running service, and what tests do with it."""

    def __init__(self, process: RunningProcess[AccountingSettings]) -> None:
        self.process = process
        self._opened: list[Any] = []
        self.operator = self.as_caller(operator_context())
        self.service = self.as_caller(service_context("gateway"))
        self.tenant = self.as_caller(tenant())
        self.nats: Client

    def as_caller(self, context: RequestContext) -> Stubs:
        stubs = Stubs(self.process.channel(context))
        self._opened.append(stubs.channel)
        return stubs

    async def __aenter__(self) -> Self:
        self.nats = await nats.connect(self.process.process.settings.nats_url)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.nats.close()
        for channel in self._opened:
            await channel.close()

    def metric(self, name: str, **labels: str) -> float:
        return self.process.process.telemetry.metrics.value(name, **labels)

    async def reserve(
        self, name: str = "r1", caller: Stubs | None = None, **changes: Any
    ) -> admission_pb.ReserveResponse:
        return await (caller or self.tenant).admission.Reserve(reserve_request(name, **changes))  # type: ignore[no-any-return]

    async def set_budget(
        self, kind: str = "ORG", name: str = "", window: str = "DAY", org: str = "acme", **limits: Any
    ) -> None:
        budget = budget_message(kind, name, window, org, **limits)
        await self.operator.budgets.SetBudget(budget_pb.SetBudgetRequest(idempotency_key=once(), budget=budget))

    async def state(self, org: str = "acme") -> list[budget_pb.BudgetState]:
        return list((await self.operator.budgets.ListBudgets(budget_pb.ListBudgetsRequest(org=org))).budgets)

    async def publish(self, *events: UsageEvent | bytes, subject: str = "usage.acme") -> None:
        js = self.nats.jetstream()
        for event in events:
            await js.publish(subject, event if isinstance(event, bytes) else event.SerializeToString())

    async def verified(self) -> ledger_pb.VerifyResponse:
        return await self.operator.ledger.Verify(ledger_pb.VerifyRequest())  # type: ignore[no-any-return]

    async def until_booked(self, count: int) -> ledger_pb.VerifyResponse:
        async def enough() -> ledger_pb.VerifyResponse | None:
            found = await self.verified()
            return found if found.usage_events >= count else None

        found: ledger_pb.VerifyResponse = await eventually(enough)
        return found

    async def until_settled(self) -> None:
        """Everything that was published is booked, settled and acknowledged."""

        async def idle() -> bool:
            info = await self.nats.jetstream().consumer_info("USAGE", "accounting-ledger")
            return (info.num_pending, info.num_ack_pending) == (0, 0)

        await eventually(idle)

    async def costs(self, group_by: int = 0, caller: Stubs | None = None, **more: Any) -> report_pb.CostResponse:
        request = report_pb.CostRequest(group_by=group_by, **more)  # type: ignore[arg-type]
        return await (caller or self.operator).reports.Cost(request)  # type: ignore[no-any-return]


class Frail:
    """A running service whose ways to its stores can be cut."""

    def __init__(self, accounting: Accounting, redis: FaultProxy, postgres: FaultProxy, nats: FaultProxy) -> None:
        self.accounting = accounting
        self.redis = redis
        self.postgres = postgres
        self.nats = nats


def reserve_request(name: str = "r1", **changes: Any) -> admission_pb.ReserveRequest:
    values: dict[str, Any] = {
        "reservation_id": name,
        "model": "small",
        "estimate": TokenUsage(fresh_input_tokens=600, output_tokens=400),
        "time_to_live": seconds(60),
    }
    return admission_pb.ReserveRequest(**{**values, **changes})


def budget_message(
    kind: str = "ORG", name: str = "", window: str = "DAY", org: str = "acme", **limits: Any
) -> budget_pb.Budget:
    money = limits.pop("money", None)
    return budget_pb.Budget(
        scope=budget_pb.Scope(kind=budget_pb.ScopeKind.Value(f"SCOPE_KIND_{kind}"), org=org, id=name),
        window=budget_pb.Window.Value(f"WINDOW_{window}"),
        limit=None if money is None else money_to_message(money),
        **limits,
    )


def usage_event(request_id: str, quote: Quote, **changes: Any) -> UsageEvent:
    usage = TokenUsage(fresh_input_tokens=500, output_tokens=200)
    event = UsageEvent(
        request_id=request_id,
        principal=PrincipalMessage(org=ADA.org, team=ADA.team, user=ADA.user, key_id=ADA.key_id),
        cache_level=model_pb2.CACHE_LEVEL_NONE,
        tier=model_pb2.TIER_SMALL,
        task=model_pb2.TASK_CHAT,
        pool="cpu-local",
        quantization="int4",
        usage=usage,
        counterfactual_usage=usage,
        quote=quote,
        finish_reason=model_pb2.FINISH_REASON_STOP,
    )
    event.end_time.GetCurrentTime()
    event.MergeFrom(UsageEvent(**changes))
    return event


__all__ = ["Role"]
