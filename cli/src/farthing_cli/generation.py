"""One request to the gateway, and what came of it."""

import time
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass

import grpc

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1 import gateway_service_pb2_grpc as pb_grpc
from farthing.gateway.v1 import outcome_service_pb2 as outcome_pb
from farthing.gateway.v1 import outcome_service_pb2_grpc as outcome_grpc
from farthing.type.v1 import model_pb2

Show = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """A complete answer with its decision, its end, and the times that the caller saw."""

    decision: pb.Decision
    text: str
    final: pb.Final
    time_to_first_token_s: float
    duration_s: float


class Gateway:
    """The gateway, called with one API key."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str, timeout_s: float) -> None:
        self._stub = pb_grpc.GatewayServiceStub(channel)
        self._outcomes = outcome_grpc.OutcomeServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._timeout_s = timeout_s

    async def ask(self, prompt: pb.Prompt, show: Show = lambda _: None) -> Answer:
        """Stream one answer; `show` gets each piece of text as it comes. Raises FarthingError."""
        start = time.perf_counter()
        decision, final, pieces, first = pb.Decision(), pb.Final(), list[str](), None
        async for response in self._stream(prompt):
            match response.WhichOneof("event"):
                case "decision":
                    decision = response.decision
                case "delta":
                    first = first or time.perf_counter()
                    pieces.append(response.delta.text)
                    show(response.delta.text)
                case "final":
                    final = response.final
        end = time.perf_counter()
        return Answer(decision, "".join(pieces), final, (first or end) - start, end - start)

    def _stream(self, prompt: pb.Prompt) -> AsyncIterable[pb.GenerateResponse]:
        request = pb.GenerateRequest(prompt=prompt)
        return self._stub.Generate(request, metadata=self._metadata, timeout=self._timeout_s)

    async def models(self) -> list[pb.Model]:
        """The models that can be asked for."""
        response = await self._stub.ListModels(pb.ListModelsRequest(), metadata=self._metadata, timeout=self._timeout_s)
        return list(response.models)

    async def report_outcome(self, request_id: str, *, acceptable: bool) -> None:
        """Say whether an earlier answer was good enough. Raises FarthingError."""
        outcome = outcome_pb.OUTCOME_ACCEPTABLE if acceptable else outcome_pb.OUTCOME_NOT_ACCEPTABLE
        request = outcome_pb.ReportOutcomeRequest(request_id=request_id, outcome=outcome)
        await self._outcomes.ReportOutcome(request, metadata=self._metadata, timeout=self._timeout_s)


def tier_name(tier: model_pb2.Tier.ValueType) -> str:
    """A tier as people write it: "small"."""
    return model_pb2.Tier.Name(tier).removeprefix("TIER_").lower()


def cache_name(level: model_pb2.CacheLevel.ValueType) -> str:
    """A cache level as people write it: "near", "exact", "none"."""
    return model_pb2.CacheLevel.Name(level).removeprefix("CACHE_LEVEL_").lower()


def finish_name(reason: model_pb2.FinishReason.ValueType) -> str:
    """Why an answer ended, as people write it: "stop"."""
    return model_pb2.FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower()
