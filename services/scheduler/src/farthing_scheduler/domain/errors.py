"""What goes wrong in the queue, one class per meaning."""

from __future__ import annotations

from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.charging import METADATA_KEY, Charged
from farthing_kit.errors import (
    Cancelled,
    DeadlineExceeded,
    DeadlineTooShort,
    FarthingError,
    Overloaded,
    QueueUnavailable,
)
from farthing_scheduler.domain.subjects import STREAM

# After these the caller was told that the answer failed: a worker that still has the job charges nothing for it.
FAILED: Final = frozenset({ErrorReason.ERROR_REASON_WORKER_LOST, ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE})
_RETRY: Final = "retry under the same idempotency key: a request is charged once"


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
    """A job of the same request waits or runs."""

    reason = ErrorReason.ERROR_REASON_IN_PROGRESS


def worker_lost(request_id: str) -> WorkerLost:
    """The worker may have booked the answer before it was lost: nobody who is left knows."""
    return WorkerLost(
        f"the worker that was answering was lost, and may have booked the answer; {_RETRY}",
        metadata={"request_id": request_id, METADATA_KEY: Charged.UNKNOWN.value},
    )


def worker_stopped(request_id: str) -> WorkerLost:
    """The worker says so itself: it stops, and books nothing."""
    return WorkerLost(
        "the worker that was answering was stopped, and nothing is charged; try again",
        metadata={"request_id": request_id, METADATA_KEY: Charged.NO.value},
    )


def queue_unavailable(what: str) -> QueueUnavailable:
    """`what` completes "the queue …". It did not take the job."""
    return QueueUnavailable(
        f"the queue {what}; try again shortly",
        metadata={"stream": STREAM, METADATA_KEY: Charged.NO.value},
        retry_after_s=0.5,
    )


def queue_silent(what: str) -> QueueUnavailable:
    """`what` completes "the queue …". Whether it has, or had, the job, and whether a worker does it, nobody knows."""
    return QueueUnavailable(
        f"the queue {what}; {_RETRY}",
        metadata={"stream": STREAM, METADATA_KEY: Charged.UNKNOWN.value},
        retry_after_s=0.5,
    )


def queue_full(what: str) -> QueueUnavailable:
    """The queue has reached a bound; `what` is the server's word for which."""
    return QueueUnavailable(
        "more requests wait than can be answered in time; try again shortly",
        metadata={"stream": STREAM, "cause": what, METADATA_KEY: Charged.NO.value},
        retry_after_s=1.0,
    )


def slow_reader(limit: int) -> Overloaded:
    """The caller reads more slowly than the model writes: what was written is booked, as for one that leaves."""
    return Overloaded(
        "the answer was read more slowly than it was written; read faster, or ask for less",
        metadata={"cause": "slow_reader", "limit": str(limit), METADATA_KEY: Charged.YES.value},
    )


def cancelled(charged: Charged) -> Cancelled:
    """The caller is gone, or said so."""
    return Cancelled("the call was cancelled", metadata={METADATA_KEY: charged.value})


def deadline_passed(charged: Charged) -> DeadlineExceeded:
    """The caller's time is up while the model runs."""
    return DeadlineExceeded("the deadline passed; allow more time", metadata={METADATA_KEY: charged.value})


def waited_too_long() -> DeadlineTooShort:
    """The caller's time was up before a worker could begin."""
    return DeadlineTooShort(
        "the deadline passed while the request waited; allow more time",
        metadata={"remaining_ms": "0", METADATA_KEY: Charged.NO.value},
    )


def in_progress(request_id: str) -> InProgress:
    """The usual words of it."""
    return InProgress(
        "this request waits or runs already; try again when it has ended",
        metadata={"request_id": request_id},
        retry_after_s=0.5,
    )


def unknown_model(model: str) -> UnknownModel:
    """The usual words of it."""
    return UnknownModel(f"no pool serves {model}; ListModels names those that exist", metadata={"model": model})


def models_unknown(model: str) -> ModelUnavailable:
    """Inference has not yet said which models there are."""
    return ModelUnavailable(
        "which models can be served is not known yet; try again shortly",
        metadata={"model": model, METADATA_KEY: Charged.NO.value},
        retry_after_s=0.5,
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
