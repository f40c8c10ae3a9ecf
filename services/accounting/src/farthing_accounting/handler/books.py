"""LedgerService and ReportService over gRPC: both read the books."""

from __future__ import annotations

from typing import Any, Final

from farthing.accounting.v1.ledger_service_pb2 import QueryRequest, QueryResponse, VerifyRequest, VerifyResponse
from farthing.accounting.v1.ledger_service_pb2_grpc import LedgerServiceServicer
from farthing.accounting.v1.report_service_pb2 import CostRequest, CostResponse
from farthing.accounting.v1.report_service_pb2_grpc import ReportServiceServicer
from farthing_accounting.app.reading import Reading
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.reports import GroupBy, ReportQuery
from farthing_accounting.domain.usage import MAX_TAG_KEY_CHARS
from farthing_accounting.handler import fields, messages
from farthing_accounting.handler.callers import visible_org
from farthing_kit.wire import money_to_message

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
_MAX_TOKEN_DIGITS: Final = 18


class LedgerHandler(LedgerServiceServicer):
    """Transactions and their verification."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def Query(self, request: QueryRequest, context: Any) -> QueryResponse:
        page, before = await self._reading.transactions(
            visible_org(request.org, "Query"),
            fields.text("request_id", request.request_id, least=0),
            _page_token(request.page_token),
            fields.count("page_size", request.page_size, most=MAX_PAGE) or DEFAULT_PAGE,
        )
        token = "" if before is None else str(before)
        return QueryResponse(transactions=messages.transactions(page), next_page_token=token)

    async def Verify(self, request: VerifyRequest, context: Any) -> VerifyResponse:
        found = await self._reading.verify()
        return VerifyResponse(
            transactions=found.transactions,
            usage_events=found.usage_events,
            ledger_total=money_to_message(found.ledger_total),
            usage_total=money_to_message(found.usage_total),
            violations=found.violations,
            waste_total=money_to_message(found.waste_total),
        )


class ReportHandler(ReportServiceServicer):
    """What was spent and saved."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def Cost(self, request: CostRequest, context: Any) -> CostResponse:
        rows, total = await self._reading.costs(_query(request))
        return CostResponse(rows=[messages.cost_row(row) for row in rows], total=messages.cost_row(total))


def _query(request: CostRequest) -> ReportQuery:
    if int(request.group_by) not in tuple(GroupBy):
        raise InvalidArgument.field("group_by", "must be a value that this version knows")
    group_by = GroupBy(request.group_by)
    least = 1 if group_by is GroupBy.TAG else 0
    start, end = fields.optional_moment(request, "start_time"), fields.optional_moment(request, "end_time")
    if start is not None and end is not None and end < start:
        raise InvalidArgument.field("end_time", "is before start_time, must be at or after it")
    tag_key = fields.text("tag_key", request.tag_key, most=MAX_TAG_KEY_CHARS, least=least)
    return ReportQuery(group_by, tag_key, start, end, visible_org(request.org, "Cost"))


def _page_token(token: str) -> int | None:
    if not token:
        return None
    if not token.isascii() or not token.isdigit() or len(token) > _MAX_TOKEN_DIGITS:
        raise InvalidArgument.field("page_token", "must be next_page_token of the page before, or empty")
    return int(token)
