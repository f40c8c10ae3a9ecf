"""`farthing tenants apply`: brings keys, budgets and policies of a mesh to what a file says."""

import re
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import budget_service_pb2_grpc, key_service_pb2_grpc, policy_pb2
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.money_pb2 import Money
from farthing_cli.errors import CliError
from farthing_cli.mesh import Mesh
from farthing_cli.money import NANOS_PER_UNIT
from farthing_kit.money import millionths

TIMEOUT_S = 15.0
ORG = re.compile(r"[a-z0-9-]{1,64}")
TIERS = {"small": model_pb2.TIER_SMALL, "medium": model_pb2.TIER_MEDIUM, "large": model_pb2.TIER_LARGE}
WINDOWS = {"minute": budget_pb.WINDOW_MINUTE, "day": budget_pb.WINDOW_DAY, "month": budget_pb.WINDOW_MONTH}
TASKS = {
    name.removeprefix("TASK_").lower(): number
    for name, number in model_pb2.Task.items()
    if number != model_pb2.TASK_UNSPECIFIED
}
CACHE_SCOPES = {
    "org": policy_pb2.CACHE_SCOPE_ORG,
    "team": policy_pb2.CACHE_SCOPE_TEAM,
    "user": policy_pb2.CACHE_SCOPE_USER,
}
OBJECTIVES = ("quality_floor", "spending_target_usd", "fixed_tier")
OUTAGES = {
    "deny": policy_pb2.OUTAGE_MODE_DENY,
    "grace": policy_pb2.OUTAGE_MODE_GRACE,
    "allow": policy_pb2.OUTAGE_MODE_ALLOW,
}
SCOPES = {
    "org": budget_pb.SCOPE_KIND_ORG,
    "team": budget_pb.SCOPE_KIND_TEAM,
    "user": budget_pb.SCOPE_KIND_USER,
    "key": budget_pb.SCOPE_KIND_KEY,
}

POLICY_KEYS = {
    "default_tier",
    "max_tier",
    "max_output_tokens",
    "cache",
    "cache_seconds",
    "outage",
    "outage_grace_usd",
}
ROUTING_KEYS = {*OBJECTIVES, "min_quality_floor", "task_models", "cascade", "session_seconds", "shadow_share"}
SEMANTIC_CACHE_KEYS = {"max_error_share", "cache_scope", "hit_price_share"}


@dataclass(frozen=True)
class Tenant:
    """One organisation of a file, in the terms of the contracts."""

    org: str
    policy: policy_pb2.Policy | None
    budgets: tuple[budget_pb.Budget, ...]
    keys: tuple[tuple[str, str], ...]  # (team, user)


class Table:
    """One table of the file, with the place to name when something in it is wrong."""

    def __init__(self, values: Any, place: str, known: set[str]) -> None:
        if not isinstance(values, dict):
            raise CliError(f"{place}: must be a table")
        if unknown := sorted(set(values) - known):
            raise CliError(f"{place}: there is no {unknown[0]!r}; there are {', '.join(sorted(known))}")
        self.values: Mapping[str, Any] = values
        self.place = place

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "must be a string")
        return value

    def number(self, key: str, default: int | None = None) -> int | None:
        """A whole number of at least 1."""
        value = self.values.get(key, default)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self.wrong(key, "must be a whole number of at least 1")
        return value

    def fraction(self, key: str) -> float | None:
        """A number from 0 to 1; which of them make sense is the service's business."""
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1):
            raise self.wrong(key, "must be a number from 0 to 1")
        return value

    def share(self, key: str) -> float:
        """A number from 0 to 1 that money is computed by: of at most 6 digits, 0 if it is not there."""
        value = self.fraction(key) or 0.0
        try:
            millionths(value)
        except ValueError as error:
            raise self.wrong(key, f"is {value!r}, {error}") from None
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def choice(self, key: str, options: Mapping[str, int], default: str) -> int:
        """One of some words."""
        word = self.text(key, default)
        if word not in options:
            raise self.wrong(key, f"is {word!r}, must be one of {', '.join(options)}")
        return options[word]

    def dollars(self, key: str) -> Money | None:
        """An amount, exact: written as a string, because a TOML float is not."""
        raw = self.text(key)
        if not raw:
            return None
        try:
            nanos = Decimal(raw) * NANOS_PER_UNIT
        except InvalidOperation:
            raise self.wrong(key, f'is {raw!r}, must be dollars such as "20.00"') from None
        if nanos != int(nanos) or nanos < 0:
            raise self.wrong(key, "must be 0 or more, with at most 9 digits after the point")
        return Money(currency_code="USD", nano_units=int(nanos))

    def wrong(self, key: str, why: str) -> CliError:
        """The error for one key."""
        return CliError(f"{self.place}.{key} {why}")


def read(path: Path) -> list[Tenant]:
    """The tenants of a file; what is wrong is named with its place."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(f"cannot read {path}: {error}") from None
    rows = Table(document, str(path), {"tenant"}).values.get("tenant", [])
    return [_tenant(row, f"{path}: tenant {number}") for number, row in enumerate(rows, 1)]


def _tenant(row: Any, place: str) -> Tenant:
    table = Table(row, place, {"org", "policy", "budget", "key"})
    org = table.text("org")
    if not ORG.fullmatch(org):
        raise table.wrong("org", f"is {org!r}, must be 1 to 64 characters of a-z, 0-9 and -")
    policy = _policy(table.values["policy"], f"{place}.policy") if "policy" in table.values else None
    budgets = tuple(_budget(org, each, f"{place}.budget") for each in table.values.get("budget", ()))
    keys = tuple(_key(each, f"{place}.key") for each in table.values.get("key", ()))
    return Tenant(org, policy, budgets, keys)


def _policy(row: Any, place: str) -> policy_pb2.Policy:
    table = Table(row, place, POLICY_KEYS | ROUTING_KEYS | SEMANTIC_CACHE_KEYS)
    return policy_pb2.Policy(
        default_tier=model_pb2.Tier.ValueType(table.choice("default_tier", TIERS, "medium")),
        max_tier=model_pb2.Tier.ValueType(table.choice("max_tier", TIERS, "large")),
        max_output_tokens=table.number("max_output_tokens", 512) or 0,
        cache_enabled=table.flag("cache", default=True),
        cache_time_to_live=_seconds(table.number("cache_seconds", 86_400) or 0),
        outage_mode=policy_pb2.OutageMode.ValueType(table.choice("outage", OUTAGES, "deny")),
        outage_grace=table.dollars("outage_grace_usd"),
        routing=_routing(table),
        semantic_cache=policy_pb2.SemanticCachePolicy(
            max_error_share=table.fraction("max_error_share") or 0.0,
            scope=policy_pb2.CacheScope.ValueType(table.choice("cache_scope", CACHE_SCOPES, "org")),
            hit_price_share=table.share("hit_price_share"),
        ),
    )


def _routing(table: Table) -> policy_pb2.RoutingPolicy:
    objectives = [key for key in OBJECTIVES if key in table.values]
    if len(objectives) > 1:
        raise table.wrong(objectives[1], f"cannot stand beside {objectives[0]}: a policy has one objective")
    routing = policy_pb2.RoutingPolicy(
        spending_target=table.dollars("spending_target_usd"),
        min_quality_floor=table.fraction("min_quality_floor") or 0.0,
        task_models=_task_models(table.values.get("task_models", {}), f"{table.place}.task_models"),
        cascade=table.flag("cascade", default=False),
        session_time_to_live=_seconds(table.number("session_seconds") or 0),
        shadow_share=table.fraction("shadow_share") or 0.0,
    )
    floor = table.fraction("quality_floor")
    if floor is not None:
        routing.quality_floor = floor
    if "fixed_tier" in table.values:
        routing.fixed_tier = model_pb2.Tier.ValueType(table.choice("fixed_tier", TIERS, ""))
    return routing


def _task_models(row: Any, place: str) -> list[policy_pb2.TaskModel]:
    table = Table(row, place, set(TASKS))
    kinds = [(model_pb2.Task.ValueType(TASKS[word]), table.text(word)) for word in table.values]
    return [policy_pb2.TaskModel(task=kind, model=model) for kind, model in kinds]


def _seconds(seconds: int) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _budget(org: str, row: Any, place: str) -> budget_pb.Budget:
    table = Table(row, place, {"scope", "window", "limit_usd", "limit_tokens", "limit_concurrency"})
    kind, _, name = table.text("scope").partition(":")
    if kind not in SCOPES or (kind == "org") != (name == ""):
        raise table.wrong("scope", f'is {table.text("scope")!r}, must be "org", "team:NAME", "user:NAME" or "key:ID"')
    return budget_pb.Budget(
        scope=budget_pb.Scope(kind=SCOPES[kind], org=org, id=name),
        window=budget_pb.Window.ValueType(table.choice("window", WINDOWS, "month")),
        limit=table.dollars("limit_usd"),
        limit_tokens=table.number("limit_tokens"),
        limit_concurrency=table.number("limit_concurrency"),
    )


def _key(row: Any, place: str) -> tuple[str, str]:
    table = Table(row, place, {"team", "user"})
    return table.text("team"), table.text("user")


async def apply(mesh: Mesh, path: Path) -> dict[str, str]:
    """Make it so. Returns the API keys that were made now (organisation → key); older ones are not shown again."""
    tenants = read(path)
    async with mesh.as_operator() as opened:
        made = {}
        for tenant in tenants:
            await _apply_limits(opened, tenant)
            for team, user in tenant.keys:
                if key := await _create_key(opened, tenant.org, team, user):
                    made[tenant.org] = key
        return made


async def _apply_limits(opened: grpc.aio.Channel, tenant: Tenant) -> None:
    stub = budget_service_pb2_grpc.BudgetServiceStub(opened)
    if tenant.policy is not None:
        set_policy = budget_pb.SetPolicyRequest(org=tenant.org, policy=tenant.policy, idempotency_key=str(uuid.uuid4()))
        await stub.SetPolicy(set_policy, timeout=TIMEOUT_S)
    for budget in tenant.budgets:
        set_budget = budget_pb.SetBudgetRequest(budget=budget, idempotency_key=str(uuid.uuid4()))
        await stub.SetBudget(set_budget, timeout=TIMEOUT_S)


async def _create_key(opened: grpc.aio.Channel, org: str, team: str, user: str) -> str:
    stub = key_service_pb2_grpc.KeyServiceStub(opened)
    request = key_pb.CreateKeyRequest(
        org=org, team=team, user=user, idempotency_key=f"tenants-file:{org}:{team}:{user}"
    )
    return (await stub.CreateKey(request, timeout=TIMEOUT_S)).api_key
