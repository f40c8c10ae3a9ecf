"""Verify in SQL: everything computed again from what was booked, as of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from farthing_accounting.adapters.postgres import posting
from farthing_accounting.adapters.postgres.database import Connection
from farthing_accounting.domain.charging import charged
from farthing_accounting.domain.ledger import Verification
from farthing_accounting.domain.posting import Booked

MAX_VIOLATIONS: Final = 100

_TOTALS: Final = """
SELECT (SELECT count(*) FROM transactions),
       (SELECT count(*) FROM usage_events),
       (SELECT coalesce(sum(amount), 0)::bigint FROM entries WHERE account LIKE 'tenant:%'),
       (SELECT coalesce(sum(cost_of(u)), 0)::bigint FROM usage_events u
          LEFT JOIN waste w USING (request_id, attempt_id, run) WHERE w.request_id IS NULL),
       (SELECT coalesce(sum(cost_of(u)), 0)::bigint FROM usage_events u JOIN waste USING (request_id, attempt_id, run)),
       (SELECT coalesce(sum(amount), 0)::bigint FROM entries WHERE account = 'platform:waste')
"""
# Each gives one sentence for each row that does not add up.
_CHECKS: Final = (
    # Double entry.
    """
    SELECT format('transaction %s (request %s) sums to %s nano-dollars over %s entries, not to 0 over at least 2',
                  t.transaction_id, t.request_id, coalesce(sum(e.amount), 0), count(e.line))
      FROM transactions t LEFT JOIN entries e USING (transaction_id)
     GROUP BY t.transaction_id, t.request_id
    HAVING coalesce(sum(e.amount), 1) <> 0 OR count(e.line) < 2
    """,
    """
    SELECT format('entry %s of transaction %s belongs to no transaction', e.line, e.transaction_id)
      FROM entries e LEFT JOIN transactions t USING (transaction_id) WHERE t.transaction_id IS NULL
    """,
    # Each event once, each transaction for an event.
    """
    SELECT format('transaction %s (request %s) has no usage event', t.transaction_id, t.request_id)
      FROM transactions t LEFT JOIN usage_events u USING (request_id, attempt_id, run)
     WHERE u.request_id IS NULL OR (t.move = 0 AND u.transaction_id <> t.transaction_id)
    """,
    """
    SELECT format('usage event %s has no transaction of its own', u.request_id)
      FROM usage_events u LEFT JOIN transactions t USING (transaction_id)
     WHERE t.transaction_id IS NULL OR t.move <> 0 OR t.org <> u.org
        OR (t.request_id, t.attempt_id, t.run) <> (u.request_id, u.attempt_id, u.run)
    """,
    # Moves alternate.
    """
    SELECT format('transaction %s moves usage event %s to where it stood', t.transaction_id, t.request_id)
      FROM transactions t LEFT JOIN transactions before
        ON before.request_id = t.request_id AND before.attempt_id = t.attempt_id AND before.run = t.run
       AND before.move = t.move - 1
     WHERE t.move > 0 AND before.charged IS NOT DISTINCT FROM t.charged
    """,
    # The formula.
    """
    SELECT format('usage event %s was booked at %s nano-dollars, its tokens and prices give %s',
                  u.request_id, u.cost, cost_of(u))
      FROM usage_events u
     WHERE u.cost <> cost_of(u)
    """,
    """
    SELECT format('usage event %s has a counterfactual cost of %s nano-dollars, its tokens and prices give %s',
                  request_id, counterfactual_cost, cost_of(counterfactual_tokens, counterfactual_prices)
                                                   - cost_of(superseded_tokens, counterfactual_prices))
      FROM usage_events
     WHERE counterfactual_cost <> cost_of(counterfactual_tokens, counterfactual_prices)
                                  - cost_of(superseded_tokens, counterfactual_prices)
    """,
    # What is taken back was booked before. The events of one request may be booked in either order, within seconds.
    """
    SELECT format('usage event %s supersedes %s, of which the same organisation has no such event',
                  later.request_id, later.superseded_request_id)
      FROM usage_events later JOIN transactions t USING (transaction_id)
      LEFT JOIN usage_events u
        ON u.request_id = later.superseded_request_id AND u.attempt_id = later.attempt_id AND u.org = later.org
       AND u.counterfactual_tokens = later.superseded_tokens
     WHERE later.superseded_request_id <> '' AND u.request_id IS NULL
       AND (t.create_time < now() - interval '1 hour'
            OR EXISTS (SELECT FROM usage_events other
                     WHERE other.request_id = later.superseded_request_id AND other.attempt_id = later.attempt_id))
    """,
    """
    SELECT format('%s usage events supersede %s: its counterfactual is taken back more than once',
                  count(*), superseded_request_id)
      FROM usage_events LEFT JOIN waste w USING (request_id, attempt_id, run)
     WHERE superseded_request_id <> '' AND w.run IS NULL
     GROUP BY superseded_request_id HAVING count(*) > 1
    """,
    # The entries are those of the event.
    """
    SELECT format('the entries of request %s are not: %s owes %s nano-dollars to whoever did the work',
                  u.request_id, debtor.account, u.cost)
      FROM usage_events u JOIN transactions t USING (transaction_id),
           LATERAL (SELECT CASE WHEN t.charged THEN 'tenant:' || u.org ELSE 'platform:waste' END AS account) AS debtor
     WHERE (SELECT array_agg(e.account || ' ' || e.amount ORDER BY e.line) FROM entries e
             WHERE e.transaction_id = u.transaction_id)
           IS DISTINCT FROM ARRAY[
             debtor.account || ' ' || u.cost,
             CASE WHEN u.cache_level IN (2, 3, 4) THEN 'cache'
                  ELSE 'pool:' || coalesce(nullif(u.pool, ''), 'unknown') END || ' ' || -u.cost]
    """,
    """
    SELECT format('the entries of transaction %s do not move request %s (%s nano-dollars) between its tenant and waste',
                  t.transaction_id, u.request_id, u.cost)
      FROM transactions t JOIN usage_events u USING (request_id, attempt_id, run),
           LATERAL (SELECT CASE WHEN t.charged THEN ARRAY['tenant:' || u.org, 'platform:waste']
                                ELSE ARRAY['platform:waste', 'tenant:' || u.org] END AS of) AS accounts
     WHERE t.move > 0
       AND (SELECT array_agg(e.account || ' ' || e.amount ORDER BY e.line) FROM entries e
             WHERE e.transaction_id = t.transaction_id)
           IS DISTINCT FROM ARRAY[accounts.of[1] || ' ' || u.cost, accounts.of[2] || ' ' || -u.cost]
    """,
    # The prices are those of the version of the list that the event names.
    """
    SELECT format('usage event %s was booked at prices of %s that version %s of the price list does not have',
                  u.request_id, wanted.model, u.price_version)
      FROM usage_events u,
           LATERAL (VALUES (u.model, u.prices), (u.counterfactual_model, u.counterfactual_prices))
             AS wanted (model, prices)
     WHERE wanted.model <> ''
       AND wanted.prices IS DISTINCT FROM (
             SELECT ARRAY[p.fresh_input, p.cache_read, p.cache_write, p.output, p.reasoning] FROM price_versions p
              WHERE p.model = wanted.model AND p.price_version <= u.price_version
              ORDER BY p.price_version DESC LIMIT 1)
    """,
    # The price of a hit is that of the version of the policy that the event names; without one, hits cost nothing.
    """
    SELECT format('usage event %s was charged %s millionths for a hit, version %s of the policy of %s has %s',
                  u.request_id, u.hit_price_share, u.policy_version, u.org, wanted.share)
      FROM usage_events u LEFT JOIN policies p ON p.org = u.org AND p.version = u.policy_version,
           LATERAL (SELECT coalesce(round(p.hit_price_share * 1000000), 0) AS share) AS wanted
     WHERE u.hit_price_share <> wanted.share OR (u.hit_price_share IS NOT NULL AND u.cache_level NOT IN (2, 3, 4))
    """,
    """
    SELECT format('usage event %s names no prices, but used %s tokens', request_id, tokens)
      FROM usage_events WHERE model = '' AND (tokens > 0 OR cost <> 0)
    """,
)


# Requests of callers about which there is a choice, or whose only event is not charged: all but those of one call, and
# those of two of which the later supersedes the earlier.
_DEBATABLE: Final = f"""
WITH debatable AS (
  SELECT u.org, caller_request_of(u) AS caller
    FROM usage_events u LEFT JOIN waste w USING (request_id, attempt_id, run)
   GROUP BY 1, 2
  HAVING bool_or(w.request_id IS NOT NULL) OR count(*) > 2
      OR (count(*) = 2
          AND (count(DISTINCT u.attempt_id) > 1 OR NOT array_agg(u.superseded_request_id) && array_agg(u.request_id))))
SELECT {posting.BOOKED_COLUMNS}
  FROM debatable d JOIN usage_events u ON u.org = d.org AND caller_request_of(u) = d.caller, {posting.NEWEST}
 ORDER BY u.org, d.caller
""".encode()  # noqa: S608 - all of it is ours


async def run(connection: Connection) -> Verification:
    """Totals and sentences; the transaction at hand becomes a snapshot."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    row = await (await connection.execute(_TOTALS)).fetchone()
    assert row is not None
    transactions, events, ledger_total, usage_total, waste_total, wasted = row
    found = [] if ledger_total == usage_total else [_totals_differ("tenants' debits sum", ledger_total, usage_total)]
    found += [] if wasted == waste_total else [_totals_differ("debits of waste sum", wasted, waste_total)]
    for check in _CHECKS:
        if len(found) < MAX_VIOLATIONS:
            found += await _sentences(connection, check, MAX_VIOLATIONS - len(found))
    if len(found) < MAX_VIOLATIONS:
        found += await _misplaced(connection, MAX_VIOLATIONS - len(found))
    return Verification(transactions, events, ledger_total, usage_total, waste_total, tuple(found))


async def _misplaced(connection: Connection, limit: int) -> list[str]:
    """What is charged although it is waste, or the other way round: the rule is applied again to all events."""
    found: list[str] = []
    group: list[Booked] = []
    async with connection.cursor(name="debatable") as cursor:
        await cursor.execute(_DEBATABLE)
        async for row in cursor:
            one = posting.booked(row)
            if group and group[0].caller_request != one.caller_request:
                found += _wrong_of(group)
                group = []
            group.append(one)
            if len(found) >= limit:
                return found[:limit]
    return [*found, *_wrong_of(group)][:limit]


def _wrong_of(group: Sequence[Booked]) -> list[str]:
    paid = charged(one.call for one in group)
    return [
        f"usage event {one.call.id.request_id} (attempt {one.call.id.attempt_id or 'unnamed'}, run {one.call.id.run})"
        f" is {'charged' if one.charged else 'waste'}, but must not be"
        for one in group
        if one.charged is not (one.call.id in paid)
    ]


async def _sentences(connection: Connection, check: str, limit: int) -> list[str]:
    cursor = await connection.execute(f"{check} LIMIT {limit:d}".encode())
    return [row[0] for row in await cursor.fetchall()]


def _totals_differ(what: str, ledger_total: int, usage_total: int) -> str:
    return f"the {what} to {ledger_total} nano-dollars, the usage to {usage_total}"
