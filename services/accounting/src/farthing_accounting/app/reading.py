"""Reading the books: transactions, their verification, the cost of a stretch of time."""

from __future__ import annotations

from collections.abc import Sequence

from farthing_accounting.domain.ledger import Transaction, Verification
from farthing_accounting.domain.reports import CostRow, ReportQuery, dearest_first, total
from farthing_accounting.ports import Ledger


class Reading:
    """Never changes anything."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def transactions(
        self, org: str, request_id: str, before: int | None, page_size: int
    ) -> tuple[Sequence[Transaction], int | None]:
        """A page, newest first, and where the next one starts."""
        found = await self._ledger.transactions(org, request_id, before, page_size + 1)
        page = found[:page_size]
        return page, page[-1].transaction_id if len(found) > page_size else None

    async def verify(self) -> Verification:
        """Everything computed again."""
        return await self._ledger.verify()

    async def costs(self, query: ReportQuery) -> tuple[Sequence[CostRow], CostRow]:
        """Rows, dearest first, and their total."""
        rows = await self._ledger.costs(query)
        return dearest_first(rows), total(rows)
