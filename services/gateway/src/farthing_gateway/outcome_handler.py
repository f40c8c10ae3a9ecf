"""farthing.gateway.v1.OutcomeService: translates calls into use cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.gateway.v1 import outcome_service_pb2_grpc as rpc
from farthing_gateway.app.outcomes import Outcomes
from farthing_gateway.domain.outcomes import Outcome
from farthing_gateway.handler import api_key
from farthing_gateway.outcome_wire import observed_to_message
from farthing_kit.errors import InvalidArgument
from farthing_kit.wire import moment_from_message


class OutcomeHandler(rpc.OutcomeServiceServicer):
    """For callers with an API key, and for operators with a signed context: the server sees to the latter."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    async def admit(self, context: Any) -> None:
        """Let in who shows a key; nothing of the message is read before."""
        await self._outcomes.authentication.admit(api_key(context))

    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, context: Any) -> pb.ReportOutcomeResponse:
        await self._outcomes.report(api_key(context), request.request_id, _outcome(request.outcome))
        return pb.ReportOutcomeResponse()

    async def ListOutcomes(
        self, request: pb.ListOutcomesRequest, context: Any
    ) -> AsyncIterator[pb.ListOutcomesResponse]:
        async with aclosing(self._outcomes.observed(_start(request))) as found:
            async for observed in found:
                yield pb.ListOutcomesResponse(observed=observed_to_message(observed))


def _start(request: pb.ListOutcomesRequest) -> datetime | None:
    return moment_from_message(request.start_time, "start_time") if request.HasField("start_time") else None


def _outcome(number: int) -> Outcome:
    try:
        return Outcome(number)
    except ValueError:
        raise InvalidArgument.field("outcome", "must be ACCEPTABLE or NOT_ACCEPTABLE") from None
