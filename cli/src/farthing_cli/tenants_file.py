"""What a tenants file says: organisations with their policies, budgets and keys, in the terms of the contracts."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.protobuf.duration_pb2 import Duration

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import policy_pb2
from farthing.type.v1 import model_pb2
from farthing.type.v1.money_pb2 import Money
from farthing_cli.errors import InputError
from farthing_cli.fields import Fields
from farthing_cli.text_files import whole_text
from farthing_kit.labels import MAX_NAME_CHARS
from farthing_kit.money import CURRENCY, millionths

NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
NAME_RULE: Final = "must be 1 to 64 characters of a-z, 0-9 and -"
# What the contract allows (budget_service.proto, policy.proto).
MAX_USD: Final = 9_000_000
MAX_TOKENS: Final = 9_000_000_000_000_000
MAX_CONCURRENCY: Final = 1_000_000
MAX_OUTPUT_TOKENS: Final = 8192
MAX_CACHE_SECONDS: Final = 30 * 86_400
MAX_SESSION_SECONDS: Final = 86_400
MAX_FILE_BYTES: Final = 16 * 1024 * 1024

TIERS: Final = {"small": model_pb2.TIER_SMALL, "medium": model_pb2.TIER_MEDIUM, "large": model_pb2.TIER_LARGE}
WINDOWS: Final = {"minute": budget_pb.WINDOW_MINUTE, "day": budget_pb.WINDOW_DAY, "month": budget_pb.WINDOW_MONTH}
TASKS: Final = {
    name.removeprefix("TASK_").lower(): number
    for name, number in model_pb2.Task.items()
    if number != model_pb2.TASK_UNSPECIFIED
}
CACHE_SCOPES: Final = {
    "org": policy_pb2.CACHE_SCOPE_ORG,
    "team": policy_pb2.CACHE_SCOPE_TEAM,
    "user": policy_pb2.CACHE_SCOPE_USER,
}
OBJECTIVES: Final = ("quality_floor", "spending_target_usd", "fixed_tier")
OUTAGES: Final = {
    "deny": policy_pb2.OUTAGE_MODE_DENY,
    "grace": policy_pb2.OUTAGE_MODE_GRACE,
    "allow": policy_pb2.OUTAGE_MODE_ALLOW,
}
SCOPES: Final = {
    "org": budget_pb.SCOPE_KIND_ORG,
    "team": budget_pb.SCOPE_KIND_TEAM,
    "user": budget_pb.SCOPE_KIND_USER,
    "key": budget_pb.SCOPE_KIND_KEY,
}

TENANT_KEYS: Final = {"org", "policy", "budget", "key"}
POLICY_KEYS: Final = {
    "default_tier",
    "max_tier",
    "max_output_tokens",
    "cache",
    "cache_seconds",
    "outage",
    "outage_grace_usd",
}
ROUTING_KEYS: Final = {*OBJECTIVES, "min_quality_floor", "task_models", "cascade", "session_seconds", "shadow_share"}
SEMANTIC_CACHE_KEYS: Final = {"max_error_share", "cache_scope", "hit_price_share"}
LIMIT_KEYS: Final = ("limit_usd", "limit_tokens", "limit_concurrency")
BUDGET_KEYS: Final = {"scope", "window", *LIMIT_KEYS}
# What accounting takes: what is wrong is refused here, before the first of the tenants is changed.
MAX_RISK_SHARE: Final = 0.1


@dataclass(frozen=True)
class Owner:
    """Whom a key is for inside an organisation; both may be empty."""

    team: str
    user: str


@dataclass(frozen=True)
class Tenant:
    """One organisation of a file, in the terms of the contracts."""

    org: str
    policy: policy_pb2.Policy | None
    budgets: tuple[budget_pb.Budget, ...]
    keys: tuple[Owner, ...]


def read(path: Path) -> list[Tenant]:
    """The tenants of a file; what is wrong is named with its place, before anything is sent."""
    try:
        document = tomllib.loads(whole_text(path, MAX_FILE_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML: {error}") from None
    rows = Fields(document, str(path), {"tenant"}, dot=": ").tables("tenant", TENANT_KEYS)
    if not rows:
        raise InputError(f'{path}: names no tenant; begin with [[tenant]] and org = "NAME"')
    tenants = [_tenant(row) for row in rows]
    _once([tenant.org for tenant in tenants], rows, "the organisation")
    return tenants


def _tenant(table: Fields) -> Tenant:
    org = table.text("org")
    if not NAME.fullmatch(org):
        raise table.wrong("org", f"is {org!r}, {NAME_RULE}")
    policy = _policy(table.table("policy", POLICY_KEYS | ROUTING_KEYS | SEMANTIC_CACHE_KEYS))
    budgets, keys = table.tables("budget", BUDGET_KEYS), table.tables("key", {"team", "user"})
    tenant = Tenant(
        org,
        policy if "policy" in table else None,
        tuple(_budget(org, each) for each in budgets),
        tuple(_owner(each) for each in keys),
    )
    _once([slot(budget) for budget in tenant.budgets], budgets, "the scope and window")
    _once(tenant.keys, keys, "the team and user")
    return tenant


def slot(budget: budget_pb.Budget) -> tuple[int, str, int]:
    """What a budget replaces: the one of the same scope and window."""
    return budget.scope.kind, budget.scope.id, budget.window


def _once(values: Sequence[object], rows: Sequence[Fields], what: str) -> None:
    """Of two that say the same, only one would come true: refused."""
    for number, value in enumerate(values):
        if (first := values.index(value)) < number:
            raise InputError(f"{rows[number].place}: has {what} of {rows[first].place}; leave one of the two out")


def _policy(table: Fields) -> policy_pb2.Policy:
    return policy_pb2.Policy(
        default_tier=model_pb2.Tier.ValueType(table.choice("default_tier", TIERS, "medium")),
        max_tier=model_pb2.Tier.ValueType(table.choice("max_tier", TIERS, "large")),
        max_output_tokens=table.whole("max_output_tokens", 1, MAX_OUTPUT_TOKENS) or 512,
        cache_enabled=table.flag("cache", default=True),
        cache_time_to_live=_seconds(table.whole("cache_seconds", 1, MAX_CACHE_SECONDS) or 86_400),
        outage_mode=policy_pb2.OutageMode.ValueType(table.choice("outage", OUTAGES, "deny")),
        outage_grace=_money(table.dollars("outage_grace_usd", MAX_USD)),
        routing=_routing(table),
        semantic_cache=policy_pb2.SemanticCachePolicy(
            max_error_share=table.number("max_error_share", 0, MAX_RISK_SHARE) or 0.0,
            scope=policy_pb2.CacheScope.ValueType(table.choice("cache_scope", CACHE_SCOPES, "org")),
            hit_price_share=_share(table, "hit_price_share"),
        ),
    )


def _routing(table: Fields) -> policy_pb2.RoutingPolicy:
    objectives = [key for key in OBJECTIVES if key in table]
    if len(objectives) > 1:
        raise table.wrong(objectives[1], f"cannot stand beside {objectives[0]}: a policy has one objective")
    routing = policy_pb2.RoutingPolicy(
        spending_target=_money(table.dollars("spending_target_usd", MAX_USD)),
        min_quality_floor=table.number("min_quality_floor", 0, 1) or 0.0,
        task_models=_task_models(table.table("task_models", set(TASKS))),
        cascade=table.flag("cascade", default=False),
        session_time_to_live=_seconds(table.whole("session_seconds", 1, MAX_SESSION_SECONDS) or 0),
        shadow_share=table.number("shadow_share", 0, MAX_RISK_SHARE) or 0.0,
    )
    floor = table.number("quality_floor", 0, 1, inside=True)
    if floor is not None:
        routing.quality_floor = floor
    if "fixed_tier" in table:
        routing.fixed_tier = model_pb2.Tier.ValueType(table.choice("fixed_tier", TIERS))
    return routing


def _task_models(table: Fields) -> list[policy_pb2.TaskModel]:
    kinds = [(model_pb2.Task.ValueType(TASKS[word]), table.label(word, most=MAX_NAME_CHARS, least=1)) for word in table]
    return [policy_pb2.TaskModel(task=kind, model=model) for kind, model in kinds]


def _share(table: Fields, key: str) -> float:
    """A number from 0 to 1 that money is computed by: of at most 6 digits, 0 if it is not there."""
    value = table.number(key, 0, 1) or 0.0
    try:
        millionths(value)
    except ValueError as error:
        raise table.wrong(key, f"is {value!r}, {error}") from None
    return value


def _money(nanos: int | None) -> Money | None:
    return None if nanos is None else Money(currency_code=CURRENCY, nano_units=nanos)


def _seconds(seconds: int) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _budget(org: str, table: Fields) -> budget_pb.Budget:
    budget = budget_pb.Budget(
        scope=_scope(org, table),
        window=budget_pb.Window.ValueType(table.choice("window", WINDOWS, "month")),
        limit=_money(table.dollars("limit_usd", MAX_USD)),
        limit_tokens=table.whole("limit_tokens", 0, MAX_TOKENS),
        limit_concurrency=table.whole("limit_concurrency", 0, MAX_CONCURRENCY),
    )
    if not any(key in table for key in LIMIT_KEYS):
        must = f"name {', '.join(LIMIT_KEYS)}, or take it out and apply with --prune, which lifts it"
        raise InputError(f"{table.place}: limits nothing; {must}")
    return budget


def _scope(org: str, table: Fields) -> budget_pb.Scope:
    scope = table.text("scope")
    kind, _, name = scope.partition(":")
    if kind not in SCOPES or (kind == "org") != (name == ""):
        raise table.wrong("scope", f'is {scope!r}, must be "org", "team:NAME", "user:NAME" or "key:ID"')
    if kind == "team" and not NAME.fullmatch(name):
        raise table.wrong("scope", f"is {scope!r}; the name of a team {NAME_RULE}")
    table.label("scope", most=len(kind) + 1 + MAX_NAME_CHARS)
    return budget_pb.Scope(kind=SCOPES[kind], org=org, id=name)


def _owner(table: Fields) -> Owner:
    team = table.text("team", "")
    if team and not NAME.fullmatch(team):
        raise table.wrong("team", f"is {team!r}, {NAME_RULE}, or left out")
    return Owner(team, table.label("user", most=MAX_NAME_CHARS))
