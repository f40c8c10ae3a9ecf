"""The queue's messages as values, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from farthing.scheduler.v1.job_pb2 import Job as JobMessage
from farthing.scheduler.v1.job_pb2 import JobReply
from farthing.scheduler.v1.scheduler_service_pb2 import Started as StartedMessage
from farthing.type.v1.generation_pb2 import GenerationChunk, GenerationFinished
from farthing_kit import status, wire
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError
from farthing_scheduler.domain.job import Chunk, Finished, Job, Reply, Started

# The service whose name stands in an error that has none of ours in it.
_INFERENCE: Final = "farthing.inference.v1.InferenceService"
# What the context of a job is signed for: no call takes it, and no call's context makes a job.
_JOB: Final = JobMessage.DESCRIPTOR.full_name


def job_to_bytes(job: Job, signer: ContextSigner) -> bytes:
    """A job as it waits in the queue."""
    message = JobMessage(
        signed_context=signer.sign(
            job.context, _JOB, lifetime_s=max(0.0, (job.deadline - job.enqueued).total_seconds())
        ),
        request=job.request,
        deadline_time=timestamp(job.deadline),
        enqueue_time=timestamp(job.enqueued),
        reply_subject=job.reply_subject,
        job_id=job.id,
    )
    return message.SerializeToString()


def job_from_bytes(data: bytes, signer: ContextSigner) -> Job:
    """A job from the queue. Raises DecodeError for other bytes, and ContextInvalid if the mesh did not make it."""
    message = JobMessage.FromString(data)
    context = signer.verify(message.signed_context, _JOB)
    return Job(
        id=message.job_id or context.request_id,
        context=context,
        request=message.request,
        deadline=_moment(message.deadline_time),
        enqueued=_moment(message.enqueue_time),
        reply_subject=message.reply_subject,
    )


def reply_to_bytes(reply: Reply) -> bytes:
    """A reply as it travels."""
    message = JobReply(attempt=reply.attempt, sequence=reply.sequence)
    if reply.started is not None:
        message.started.CopyFrom(started_to_message(reply.started))
    if reply.chunk is not None:
        message.chunk.CopyFrom(chunk_to_message(reply.chunk))
    if reply.finished is not None:
        message.finished.CopyFrom(finished_to_message(reply.finished))
    if reply.error is not None:
        message.error_status = status.to_status(reply.error).SerializeToString()
    return message.SerializeToString()


def reply_from_bytes(data: bytes) -> Reply:
    """A reply from a worker. Raises DecodeError for other bytes."""
    message = JobReply.FromString(data)
    has = message.HasField
    return Reply(
        attempt=message.attempt,
        sequence=message.sequence,
        started=_started(message.started) if has("started") else None,
        chunk=chunk_from_message(message.chunk) if has("chunk") else None,
        finished=finished_from_message(message.finished) if has("finished") else None,
        error=_error(message.error_status) if message.error_status else None,
    )


def started_to_message(started: Started) -> StartedMessage:
    """For the caller and on the way to it."""
    queue_time = Duration()
    queue_time.FromNanoseconds(round(started.queue_s * 1e9))
    return StartedMessage(pool=started.pool, quantization=started.quantization, queue_time=queue_time)


def chunk_to_message(chunk: Chunk) -> GenerationChunk:
    """For the caller and on the way to it."""
    return GenerationChunk(text=chunk.text, output_tokens=chunk.output_tokens, input_tokens=chunk.input_tokens)


def chunk_from_message(message: GenerationChunk) -> Chunk:
    """From inference, or from a worker."""
    return Chunk(message.text, message.output_tokens, message.input_tokens)


def finished_to_message(finished: Finished) -> GenerationFinished:
    """For the caller and on the way to it."""
    return GenerationFinished(
        finish_reason=finished.reason,
        usage=wire.usage_to_message(finished.usage),
        mean_token_logprob=finished.mean_token_logprob,
    )


def finished_from_message(message: GenerationFinished) -> Finished:
    """From inference, or from a worker."""
    logprob = message.mean_token_logprob if message.HasField("mean_token_logprob") else None
    return Finished(message.finish_reason, wire.usage_from_message(message.usage), logprob)


def timestamp(moment: datetime) -> Timestamp:
    """A moment, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _moment(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _started(message: StartedMessage) -> Started:
    return Started(message.pool, message.quantization, message.queue_time.ToNanoseconds() / 1e9)


def _error(raw: bytes) -> FarthingError:
    """The worker's error, by the same rules as one that came from a call."""
    trailing = grpc.aio.Metadata((status.DETAILS_KEY, raw))
    return status.from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), trailing), _INFERENCE
    )
