"""Policies in PostgreSQL: every version of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.adapters.postgres.once import first_time
from farthing_accounting.domain.policy import DEFAULT_POLICY, Policy
from farthing_accounting.domain.vocabulary import OutageMode, Tier
from farthing_accounting.ports import WriteOnce
from farthing_kit.money import NanoUsd

_LOCK: Final = 7_201_003
_CURRENT: Final = """
SELECT version, default_tier, max_tier, max_output_tokens, cache_enabled, cache_time_to_live, outage_mode, outage_grace
  FROM policies WHERE org = %s ORDER BY version DESC LIMIT 1
"""
_INSERT: Final = """
INSERT INTO policies (org, version, default_tier, max_tier, max_output_tokens, cache_enabled, cache_time_to_live,
                      outage_mode, outage_grace)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


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
                await _insert(connection, org, current.version + 1, policy)
            return await _current(connection, org)


def of_row(row: Sequence[Any]) -> Policy:
    """A policy from its columns; an organisation that has none gets the default."""
    if row[0] is None:
        return DEFAULT_POLICY
    version, default_tier, max_tier, max_output, cache, time_to_live, outage_mode, grace = row
    return Policy(
        version,
        Tier(default_tier),
        Tier(max_tier),
        max_output,
        cache,
        time_to_live,
        OutageMode(outage_mode),
        NanoUsd(grace),
    )


async def _current(connection: Connection, org: str) -> Policy:
    row = await (await connection.execute(_CURRENT, (org,))).fetchone()
    return DEFAULT_POLICY if row is None else of_row(row)


async def _insert(connection: Connection, org: str, version: int, policy: Policy) -> None:
    values = (
        org,
        version,
        policy.default_tier,
        policy.max_tier,
        policy.max_output_tokens,
        policy.cache_enabled,
        policy.cache_time_to_live,
        policy.outage_mode,
        policy.outage_grace,
    )
    await connection.execute(_INSERT, values)
