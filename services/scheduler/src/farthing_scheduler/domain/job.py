"""A job and what comes of it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from farthing.scheduler.v1.scheduler_service_pb2 import GenerateRequest
from farthing.type.v1.model_pb2 import FinishReason
from farthing_kit.context import RequestContext
from farthing_kit.errors import FarthingError
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Job:
    """A generation that waits or runs. `request` is passed on as it came: only its model and charge are read here. `id`
    is the job's own, made anew each time that its request is queued: replies and cancellations go by it."""

    id: str
    context: RequestContext
    request: GenerateRequest
    deadline: datetime
    enqueued: datetime
    reply_subject: str

    @property
    def request_id(self) -> str:
        """What may be queued or run only once at a time."""
        return self.context.request_id

    @property
    def model(self) -> str:
        """The model that shall answer."""
        return self.request.model


@dataclass(frozen=True, slots=True)
class Started:
    """Where a job runs, and how long it waited for that."""

    pool: str
    quantization: str
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of an answer; the counts are totals so far, this piece included."""

    text: str
    output_tokens: int
    input_tokens: int

    def then(self, later: Chunk) -> Chunk:
        """Both as one piece."""
        return Chunk(self.text + later.text, later.output_tokens, later.input_tokens or self.input_tokens)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a generation ended, what it used, and how probable its tokens were to the model, where that is known."""

    reason: FinishReason.ValueType
    usage: TokenUsage
    mean_token_logprob: float | None = None


Event = Started | Chunk | Finished


@dataclass(frozen=True, slots=True)
class Reply:
    """One message from a worker to the caller's replica. Without any part it is a sign of life."""

    attempt: int
    sequence: int
    started: Started | None = None
    chunk: Chunk | None = None
    finished: Finished | None = None
    error: FarthingError | None = None

    @property
    def is_sign_of_life(self) -> bool:
        """Whether it carries nothing."""
        return self.started is None and self.chunk is None and not self.is_last

    @property
    def is_last(self) -> bool:
        """Whether nothing follows in this attempt."""
        return self.finished is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The work for one model: waiting for a worker, and with one."""

    model: str
    waiting: int
    running: int
