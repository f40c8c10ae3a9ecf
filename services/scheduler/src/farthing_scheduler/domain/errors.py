"""What goes wrong in the queue, one class per meaning."""

from __future__ import annotations

from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError, Overloaded, QueueUnavailable
from farthing_scheduler.domain.subjects import STREAM

# What a caller does not pay for.
FREE: Final = frozenset({ErrorReason.ERROR_REASON_WORKER_LOST, ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE})


class WorkerLost(FarthingError):
    """The worker that was answering is gone; the answer cannot be completed."""

    reason = ErrorReason.ERROR_REASON_WORKER_LOST


class UnknownModel(FarthingError):
    """No pool serves the model."""

    reason = ErrorReason.ERROR_REASON_UNKNOWN_MODEL


class ModelUnavailable(FarthingError):
    """The models cannot be reached at present."""

    reason = ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE


class PromptTooLarge(FarthingError):
    """The job does not fit into a message of the queue."""

    reason = ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE


class InProgress(FarthingError):
    """A job with the same request id was queued before."""

    reason = ErrorReason.ERROR_REASON_IN_PROGRESS


def worker_lost(request_id: str) -> WorkerLost:
    """The usual words of it."""
    return WorkerLost(
        "the worker that was answering was lost, and nothing is charged; try again",
        metadata={"request_id": request_id},
    )


def queue_unavailable(what: str) -> QueueUnavailable:
    """`what` completes "the queue …"."""
    return QueueUnavailable(f"the queue {what}; try again shortly", metadata={"stream": STREAM}, retry_after_s=0.5)


def queue_full(what: str) -> QueueUnavailable:
    """The queue has reached a bound; `what` is the server's word for which."""
    return QueueUnavailable(
        "more requests wait than can be answered in time; try again shortly",
        metadata={"stream": STREAM, "cause": what},
        retry_after_s=1.0,
    )


def slow_reader(limit: int) -> Overloaded:
    """The caller reads more slowly than the model writes."""
    return Overloaded(
        "the answer was read more slowly than it was written; read faster, or ask for less",
        metadata={"cause": "slow_reader", "limit": str(limit)},
    )


def in_progress(request_id: str) -> InProgress:
    """The usual words of it."""
    return InProgress(
        "a job with this request id was queued before; a new attempt needs a new request id",
        metadata={"request_id": request_id},
    )


def unknown_model(model: str) -> UnknownModel:
    """The usual words of it."""
    return UnknownModel(f"no pool serves {model}; ListModels names those that exist", metadata={"model": model})


def models_unknown(model: str) -> ModelUnavailable:
    """Inference has not yet said which models there are."""
    return ModelUnavailable(
        "which models can be served is not known yet; try again shortly", metadata={"model": model}, retry_after_s=0.5
    )


def inference_unavailable(model: str) -> ModelUnavailable:
    """Inference itself cannot be reached."""
    return ModelUnavailable(
        f"inference cannot be reached for {model}; try again shortly", metadata={"model": model}, retry_after_s=0.5
    )


def prompt_too_large(actual_bytes: int, limit_bytes: int) -> PromptTooLarge:
    """The usual words of it."""
    return PromptTooLarge(
        f"the conversation takes {actual_bytes} bytes in the queue, which takes {limit_bytes}; send less",
        metadata={"limit_bytes": str(limit_bytes), "actual_bytes": str(actual_bytes)},
    )
