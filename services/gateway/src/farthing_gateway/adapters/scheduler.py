"""The scheduler over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from farthing.scheduler.v1 import scheduler_service_pb2 as pb
from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from farthing.type.v1.model_pb2 import Task as TaskMessage
from farthing_gateway.adapters.wire import (
    known,
    messages_to_messages,
    quote_to_message,
    sampling_to_message,
    tier_to_message,
)
from farthing_gateway.domain.model import FinishReason
from farthing_gateway.ports import Chunk, Finished, Job, Progress, Started
from farthing_kit.interceptors.client import Channel
from farthing_kit.wire import usage_from_message


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
        ),
    )


def _progress(response: pb.GenerateResponse) -> Progress:
    if response.HasField("chunk"):
        return Chunk(response.chunk.text)
    if response.HasField("started"):
        return Started(response.started.pool, response.started.quantization)
    finished = response.finished
    return Finished(
        known(FinishReason, finished.finish_reason, FinishReason.UNSPECIFIED), usage_from_message(finished.usage)
    )
