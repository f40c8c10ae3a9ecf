"""Verify in SQL: everything computed again from what was booked, as of one moment."""

from __future__ import annotations

from typing import Final

from farthing_accounting.adapters.postgres.database import Connection
from farthing_accounting.domain.ledger import Verification

MAX_VIOLATIONS: Final = 100

_TOTALS: Final = """
SELECT (SELECT count(*) FROM transactions),
       (SELECT count(*) FROM usage_events),
       (SELECT coalesce(sum(amount), 0)::bigint FROM entries WHERE account LIKE 'tenant:%'),
       (SELECT coalesce(sum(cost_of(u)), 0)::bigint FROM usage_events u)
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
      FROM transactions t LEFT JOIN usage_events u USING (transaction_id) WHERE u.transaction_id IS NULL
    """,
    """
    SELECT format('usage event %s has no transaction of its own', u.request_id)
      FROM usage_events u LEFT JOIN transactions t USING (transaction_id)
     WHERE t.transaction_id IS NULL OR t.request_id <> u.request_id OR t.org <> u.org
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
        ON u.request_id = later.superseded_request_id AND u.org = later.org
       AND u.counterfactual_tokens = later.superseded_tokens
     WHERE later.superseded_request_id <> '' AND u.request_id IS NULL
       AND (t.create_time < now() - interval '1 hour'
            OR EXISTS (SELECT FROM usage_events other WHERE other.request_id = later.superseded_request_id))
    """,
    """
    SELECT format('%s usage events supersede %s: its counterfactual is taken back more than once',
                  count(*), superseded_request_id)
      FROM usage_events WHERE superseded_request_id <> ''
     GROUP BY superseded_request_id HAVING count(*) > 1
    """,
    # The entries are those of the event.
    """
    SELECT format('the entries of request %s are not: tenant:%s owes %s nano-dollars to whoever did the work',
                  u.request_id, u.org, u.cost)
      FROM usage_events u
     WHERE (SELECT array_agg(e.account || ' ' || e.amount ORDER BY e.line) FROM entries e
             WHERE e.transaction_id = u.transaction_id)
           IS DISTINCT FROM ARRAY[
             'tenant:' || u.org || ' ' || u.cost,
             CASE WHEN u.cache_level IN (2, 3, 4) THEN 'cache'
                  ELSE 'pool:' || coalesce(nullif(u.pool, ''), 'unknown') END || ' ' || -u.cost]
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


async def run(connection: Connection) -> Verification:
    """Totals and sentences; the transaction at hand becomes a snapshot."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    row = await (await connection.execute(_TOTALS)).fetchone()
    assert row is not None
    transactions, events, ledger_total, usage_total = row
    found = [] if ledger_total == usage_total else [_totals_differ(ledger_total, usage_total)]
    for check in _CHECKS:
        if len(found) < MAX_VIOLATIONS:
            found += await _sentences(connection, check, MAX_VIOLATIONS - len(found))
    return Verification(transactions, events, ledger_total, usage_total, tuple(found))


async def _sentences(connection: Connection, check: str, limit: int) -> list[str]:
    cursor = await connection.execute(f"{check} LIMIT {limit:d}".encode())
    return [row[0] for row in await cursor.fetchall()]


def _totals_differ(ledger_total: int, usage_total: int) -> str:
    return f"the tenants' debits sum to {ledger_total} nano-dollars, the usage to {usage_total}"
