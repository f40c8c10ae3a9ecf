"""The price list in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.adapters.postgres.once import first_time
from farthing_accounting.domain.pricing import ModelPrice, PriceBook
from farthing_accounting.domain.vocabulary import Tier
from farthing_accounting.ports import WriteOnce
from farthing_kit.money import UnitPrices

# Held by one change at a time: a list that was read up to version N has every version up to N.
_LOCK: Final = 7_201_004
_SELECT: Final = """
SELECT price_version, model, tier, fresh_input, cache_read, cache_write, output, reasoning, effective_time
  FROM price_versions ORDER BY price_version
"""
_INSERT: Final = """
INSERT INTO price_versions (model, tier, fresh_input, cache_read, cache_write, output, reasoning)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


class PostgresPrices:
    """Every version of the list."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def book(self) -> PriceBook:
        """The whole list: prices change by hand, so that it stays short."""
        async with self._database.transaction() as connection:
            return await _book(connection)

    async def put(self, price: ModelPrice, once: WriteOnce) -> ModelPrice:
        """Append a version, unless the same write was done before."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            new, _ = await first_time(connection, "SetPrice", once)
            if new:
                await _insert(connection, price)
            (now,) = (p for p in await _book(connection) if p.model == price.model)
            return now

    async def seed(self, prices: Sequence[ModelPrice]) -> Sequence[str]:
        """Append a version for each model that has none."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            known = await _book(connection)
            missing = [price for price in prices if price.model not in known]
            for price in missing:
                await _insert(connection, price)
            return [price.model for price in missing]


async def _book(connection: Connection) -> PriceBook:
    return PriceBook(_price(row) for row in await (await connection.execute(_SELECT)).fetchall())


async def _insert(connection: Connection, price: ModelPrice) -> None:
    p = price.prices
    await connection.execute(
        _INSERT, (price.model, price.tier, p.fresh_input, p.cache_read, p.cache_write, p.output, p.reasoning)
    )


def _price(row: tuple[Any, ...]) -> ModelPrice:
    version, model, tier, *prices, effective = row
    return ModelPrice(version, model, Tier(tier), UnitPrices(*prices), effective)
