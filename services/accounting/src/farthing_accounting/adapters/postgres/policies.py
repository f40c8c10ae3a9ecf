"""Policies in PostgreSQL: every version of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.adapters.postgres.once import first_time
from farthing_accounting.domain.policy import (
    DEFAULT_POLICY,
    FixedTier,
    Objective,
    Policy,
    QualityFloor,
    RoutingPolicy,
    SemanticCachePolicy,
    SpendingTarget,
)
from farthing_accounting.domain.vocabulary import CacheScope, OutageMode, Task, Tier
from farthing_accounting.ports import WriteOnce
from farthing_kit.money import WHOLE, Millionths, NanoUsd

_LOCK: Final = 7_201_003
_COLUMNS: Final = (
    "version",
    "default_tier",
    "max_tier",
    "max_output_tokens",
    "cache_enabled",
    "cache_time_to_live",
    "outage_mode",
    "outage_grace",
    "quality_floor",
    "spending_target",
    "fixed_tier",
    "min_quality_floor",
    "task_models",
    "cascade",
    "session_time_to_live",
    "shadow_share",
    "max_error_share",
    "cache_scope",
    "hit_price_share",
)
_NAMES: Final = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
_PLACES: Final = sql.SQL(", ").join([sql.Placeholder()] * len(_COLUMNS))
_CURRENT: Final = sql.SQL("SELECT {} FROM policies WHERE org = %s ORDER BY version DESC LIMIT 1").format(_NAMES)
_INSERT: Final = sql.SQL("INSERT INTO policies (org, {}) VALUES (%s, {})").format(_NAMES, _PLACES)


class PostgresPolicies:
    """The newest version of each organisation is in force."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, org: str, policy: Policy, once: WriteOnce) -> Policy:
        """One change at a time, so that versions count up by one."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            new, _ = await first_time(connection, "SetPolicy", once)
            current = await _current(connection, org)
            if new and (current.version == 0 or not current.same_rules(policy)):
                await connection.execute(_INSERT, (org, *_values(current.version + 1, policy)))
            return await _current(connection, org)


def columns(alias: str) -> sql.Composable:
    """The columns of a policy, for a query that joins them."""
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in _COLUMNS)


def of_row(row: Sequence[Any]) -> Policy:
    """A policy from its columns; an organisation that has none gets the default."""
    if row[0] is None:
        return DEFAULT_POLICY
    value: Mapping[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    return Policy(
        version=value["version"],
        default_tier=Tier(value["default_tier"]),
        max_tier=Tier(value["max_tier"]),
        max_output_tokens=value["max_output_tokens"],
        cache_enabled=value["cache_enabled"],
        cache_time_to_live=value["cache_time_to_live"],
        outage_mode=OutageMode(value["outage_mode"]),
        outage_grace=NanoUsd(value["outage_grace"]),
        routing=_routing(value),
        semantic_cache=SemanticCachePolicy(
            max_error_share=value["max_error_share"],
            scope=CacheScope(value["cache_scope"]),
            hit_price_share=Millionths(round(value["hit_price_share"] * WHOLE)),
        ),
    )


def _routing(value: Mapping[str, Any]) -> RoutingPolicy:
    tasks = sorted((Task(int(task)), model) for task, model in value["task_models"].items())
    return RoutingPolicy(
        objective=_objective(value),
        min_quality_floor=value["min_quality_floor"],
        task_models=tuple(tasks),
        cascade=value["cascade"],
        session_time_to_live=value["session_time_to_live"],
        shadow_share=value["shadow_share"],
    )


def _objective(value: Mapping[str, Any]) -> Objective:
    if value["spending_target"] is not None:
        return SpendingTarget(NanoUsd(value["spending_target"]))
    if value["fixed_tier"] is not None:
        return FixedTier(Tier(value["fixed_tier"]))
    if value["quality_floor"] is not None:
        return QualityFloor(value["quality_floor"])
    return QualityFloor()


async def _current(connection: Connection, org: str) -> Policy:
    row = await (await connection.execute(_CURRENT, (org,))).fetchone()
    return DEFAULT_POLICY if row is None else of_row(row)


def _values(version: int, policy: Policy) -> tuple[Any, ...]:
    """In the order of the columns."""
    routing, semantic = policy.routing, policy.semantic_cache
    objective = routing.objective
    return (
        version,
        policy.default_tier,
        policy.max_tier,
        policy.max_output_tokens,
        policy.cache_enabled,
        policy.cache_time_to_live,
        policy.outage_mode,
        policy.outage_grace,
        objective.floor if isinstance(objective, QualityFloor) else None,
        objective.target if isinstance(objective, SpendingTarget) else None,
        objective.tier if isinstance(objective, FixedTier) else None,
        routing.min_quality_floor,
        Jsonb({str(int(task)): model for task, model in routing.task_models}),
        routing.cascade,
        routing.session_time_to_live,
        routing.shadow_share,
        semantic.max_error_share,
        semantic.scope,
        semantic.hit_price_share / WHOLE,
    )
