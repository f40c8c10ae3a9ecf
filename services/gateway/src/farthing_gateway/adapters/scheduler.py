"""The scheduler over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from farthing.accounting.v1.usage_event_pb2 import SupersededCall as SupersededMessage
from farthing.scheduler.v1 import scheduler_service_pb2 as pb
from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from farthing.type.v1.model_pb2 import Task as TaskMessage
from farthing_gateway.adapters.wire import (
    attempt_to_message,
    known,
    messages_to_messages,
    quote_to_message,
    sampling_to_message,
    tier_to_message,
)
from farthing_gateway.domain.costs import SupersededCall
from farthing_gateway.domain.model import FinishReason
from farthing_gateway.ports import Chunk, Finished, Job, Progress, Started
from farthing_kit.interceptors.client import Channel
from farthing_kit.wire import usage_from_message, usage_to_message


class GrpcScheduler:
    """The Scheduler port. A generation may take what is left of the request's deadline."""

    def __init__(self, channel: Channel) -> None:
        self._stub = SchedulerServiceStub(channel)

    async def generate(self, job: Job) -> AsyncGenerator[Progress]:
        call = self._stub.Generate(_request(job))
        try:
            async for response in call:
                yield _progress(response)
        finally:
            call.cancel()  # who stops reading stops the model


def _request(job: Job) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        model=job.model,
        messages=messages_to_messages(job.messages),
        sampling=sampling_to_message(job.sampling),
        charge=pb.Charge(
            reservation_id=job.reservation_id,
            quote=quote_to_message(job.quote),
            tier=tier_to_message(job.tier),
            task=TaskMessage.ValueType(job.task),
            tags=job.tags,
            superseded=_superseded(job.superseded) if job.superseded is not None else None,
            attempt=attempt_to_message(job.attempt),
        ),
        return_mean_token_logprob=job.wants_logprob,
    )


def _progress(response: pb.GenerateResponse) -> Progress:
    if response.HasField("chunk"):
        return Chunk(response.chunk.text)
    if response.HasField("started"):
        return Started(response.started.pool, response.started.quantization)
    finished = response.finished
    return Finished(
        known(FinishReason, finished.finish_reason, FinishReason.UNSPECIFIED),
        usage_from_message(finished.usage),
        finished.mean_token_logprob if finished.HasField("mean_token_logprob") else None,
    )


def _superseded(call: SupersededCall) -> SupersededMessage:
    return SupersededMessage(
        request_id=call.request_id, counterfactual_usage=usage_to_message(call.counterfactual_usage)
    )
