"""Writing a batch into the books: what is known of its requests, rows for what is new, what moves the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb

from farthing_accounting.adapters.postgres.database import Connection
from farthing_accounting.domain.charging import Call
from farthing_accounting.domain.ledger import Booking, Entry, moving
from farthing_accounting.domain.posting import Booked, Move, New, Plan
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.usage import NO_TIME, CallerRequest, EventId
from farthing_accounting.domain.vocabulary import FinishReason
from farthing_kit.money import NanoUsd, UnitPrices
from farthing_kit.usage import Tokens, TokenUsage

_COLUMNS: Final = (
    "request_id", "attempt_id", "run", "caller_request_id", "attempt_begin_time",
    "transaction_id", "digest", "org", "team", "user_id", "key_id", "end_time", "reservation_id",
    "cache_level", "tier", "task", "pool", "quantization", "finish_reason", "tags", "model", "price_version",
    "fresh_input", "cache_read", "cache_write", "output", "reasoning", "prices", "cost",
    "counterfactual_model", "counterfactual_tokens", "counterfactual_prices", "counterfactual_cost",
    "superseded_request_id", "superseded_tokens", "policy_version", "hit_price_share",
)  # fmt: skip
_COPY: Final = f"COPY usage_events ({', '.join(_COLUMNS)}) FROM STDIN".encode()
_TYPES: Final = (
    "text", "text", "int4", "text", "timestamptz",
    "int8", "bytea", "text", "text", "text", "text", "timestamptz", "text",
    "int2", "int2", "int2", "text", "text", "int2", "jsonb", "text", "int8",
    "int8", "int8", "int8", "int8", "int8", "int8[]", "int8",
    "text", "int8[]", "int8[]", "int8",
    "text", "int8[]", "int8", "int4",
)  # fmt: skip
BOOKED_COLUMNS: Final = """
       u.request_id, u.attempt_id, u.run, u.attempt_begin_time, u.end_time, u.finish_reason, u.cost,
       u.superseded_request_id, u.digest, u.org, caller_request_of(u), u.team, u.user_id, u.key_id, u.tokens,
       u.transaction_id, t.transaction_id, t.move, t.charged
"""
NEWEST: Final = """
  LATERAL (SELECT n.transaction_id, n.move, n.charged FROM transactions n
            WHERE n.request_id = u.request_id AND n.attempt_id = u.attempt_id AND n.run = u.run
            ORDER BY n.move DESC LIMIT 1) AS t
"""
# By the id of the call; by the caller's request; and by what events of older releases say instead of it.
_KNOWN: Final = f"""
SELECT {BOOKED_COLUMNS}
  FROM usage_events u, {NEWEST}
 WHERE u.request_id = ANY(%(ids)s)
    OR (u.caller_request_id <> '' AND u.caller_request_id = ANY(%(callers)s))
    OR (u.superseded_request_id <> '' AND u.superseded_request_id = ANY(%(callers)s))
""".encode()  # noqa: S608 - all of it is in this file
_INSERT_TRANSACTIONS: Final = """
INSERT INTO transactions (request_id, attempt_id, run, org, move, charged)
SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::int[], %s::boolean[])
RETURNING request_id, attempt_id, run, transaction_id
"""

Line = tuple[int, int, str, int]


async def known(connection: Connection, bookings: Sequence[Booking]) -> list[Booked]:
    """What is booked already under the ids of these events, and for the same callers' requests."""
    callers = {booking.event.caller_request.request_id for booking in bookings}
    ids = callers | {booking.event.request_id for booking in bookings}
    cursor = await connection.execute(_KNOWN, {"ids": list(ids), "callers": list(callers)})
    return [booked(row) for row in await cursor.fetchall()]


def booked(row: tuple[Any, ...]) -> Booked:
    """From BOOKED_COLUMNS."""
    name = EventId(*row[:3])
    begin, end, reason, cost, superseded, digest, org, caller, team, user, key, tokens, own, newest, move, paid = row[
        3:
    ]
    well = reason != FinishReason.CANCELLED
    return Booked(
        call=Call(name, begin or NO_TIME, end, well, NanoUsd(cost), superseded),
        digest=bytes(digest),
        caller_request=CallerRequest(org, caller),
        principal=Principal(org, team, user, key),
        tokens=Tokens(tokens),
        transaction_id=own,
        newest=newest,
        moves=move,
        charged=paid,
    )


async def write(connection: Connection, plan: Plan) -> dict[EventId, int]:
    """The transaction of each event that was booked or moved."""
    if not plan.new:
        return {}
    ids = await _insert_transactions(connection, plan)
    lines = [*_lines_of_new(plan.new, ids), *_lines_of_moves(plan.moves, ids)]
    await connection.execute(
        "INSERT INTO entries (transaction_id, line, account, amount)"
        " SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::bigint[])",
        [list(column) for column in zip(*lines, strict=True)],
    )
    async with connection.cursor().copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for name, new in plan.new.items():
            await copy.write_row(_row(new.booking, ids[name]))
    return ids


async def _insert_transactions(connection: Connection, plan: Plan) -> dict[EventId, int]:
    rows = [(*name, new.booking.event.principal.org, 0, new.charged) for name, new in plan.new.items()]
    rows += [(*move.booked.call.id, move.booked.caller_request.org, move.number, move.charged) for move in plan.moves]
    columns = [list(column) for column in zip(*rows, strict=True)]
    cursor = await connection.execute(_INSERT_TRANSACTIONS, columns)
    return {EventId(*row[:3]): row[3] for row in await cursor.fetchall()}


def _lines_of_new(new: Mapping[EventId, New], ids: Mapping[EventId, int]) -> Iterator[Line]:
    for name, one in new.items():
        yield from _lines(ids[name], one.booking.entries if one.charged else one.booking.wasted)


def _lines_of_moves(moves: Sequence[Move], ids: Mapping[EventId, int]) -> Iterator[Line]:
    for move in moves:
        entries = moving(move.booked.caller_request.org, move.booked.call.cost, charged=move.charged)
        yield from _lines(ids[move.booked.call.id], entries)


def _lines(transaction_id: int, entries: Sequence[Entry]) -> Iterator[Line]:
    for line, entry in enumerate(entries, start=1):
        yield transaction_id, line, entry.account, entry.amount


def _row(booking: Booking, transaction_id: int) -> tuple[Any, ...]:
    event, quote, attempt = booking.event, booking.event.quote, booking.event.attempt
    return (
        *event.id,
        attempt.request_id if attempt else "",
        attempt.begin_time if attempt and attempt.begin_time != NO_TIME else None,
        transaction_id,
        event.digest(),
        *(event.principal.org, event.principal.team, event.principal.user, event.principal.key_id),
        event.end_time,
        event.reservation_id,
        *(int(event.cache_level), int(event.tier), int(event.task)),
        event.pool,
        event.quantization,
        int(event.finish_reason),
        Jsonb(event.tags),
        quote.model if quote else "",
        quote.price_version if quote else 0,
        *_buckets(event.usage),
        _buckets(quote.prices if quote else UnitPrices()),
        booking.cost,
        quote.counterfactual_model if quote else "",
        _buckets(booking.counterfactual_usage),
        _buckets(quote.counterfactual_prices if quote else UnitPrices()),
        booking.counterfactual_cost,
        event.superseded.request_id if event.superseded else "",
        _buckets(event.superseded.counterfactual_usage if event.superseded else TokenUsage()),
        *((event.hit_price.policy_version, event.hit_price.share) if event.hit_price else (None, None)),
    )


def _buckets(of: TokenUsage | UnitPrices) -> list[int]:
    return [of.fresh_input, of.cache_read, of.cache_write, of.output, of.reasoning]
