"""Answers and keys as messages of farthing.cache.v1, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from farthing.cache.v1.cache_service_pb2 import CachedAnswer
from farthing.cache.v1.cache_service_pb2 import CacheKey as CacheKeyMessage
from farthing.type.v1.model_pb2 import FinishReason
from farthing_cache.domain.answer import DIGEST_BYTES, Answer, CacheKey
from farthing_kit.errors import FieldViolation, InvalidArgument
from farthing_kit.wire import usage_from_message, usage_to_message

MAX_NAME_CHARS = 128


def key_from_message(message: CacheKeyMessage) -> CacheKey:
    """The key; refuses digests that are not SHA-256."""
    digests = {
        "key.compatibility_digest": message.compatibility_digest,
        "key.prompt_digest": message.prompt_digest,
    }
    wrong = [name for name, digest in digests.items() if len(digest) != DIGEST_BYTES]
    if wrong:
        raise _refusal([FieldViolation(name, f"must have {DIGEST_BYTES} bytes") for name in wrong])
    return CacheKey(message.compatibility_digest, message.prompt_digest)


def answer_to_message(answer: Answer) -> CachedAnswer:
    """The answer as callers and Redis see it."""
    message = CachedAnswer(
        text=answer.text,
        finish_reason=FinishReason.FINISH_REASON_STOP,
        usage=usage_to_message(answer.usage),
        tier=answer.tier,  # type: ignore[arg-type]  # an open enum: carried through as it came
        model=answer.model,
        quantization=answer.quantization,
    )
    message.create_time.FromDatetime(answer.created_at)
    return message


def answer_from_message(message: CachedAnswer) -> Answer:
    """The answer as Redis held it."""
    return Answer(
        text=message.text,
        usage=usage_from_message(message.usage, "answer.usage"),
        tier=message.tier,
        model=message.model,
        quantization=message.quantization,
        created_at=message.create_time.ToDatetime(UTC),
    )


def answer_to_keep(message: CachedAnswer, now: datetime) -> Answer:
    """The answer that a caller wants kept; refuses what is not one complete, attributable answer."""
    wrong = [
        FieldViolation("answer.finish_reason", "must be FINISH_REASON_STOP; only complete answers are kept")
        if message.finish_reason != FinishReason.FINISH_REASON_STOP
        else None,
        FieldViolation("answer.text", "must not be empty") if not message.text else None,
        FieldViolation("answer.model", f"must have 1 to {MAX_NAME_CHARS} characters")
        if not 0 < len(message.model) <= MAX_NAME_CHARS
        else None,
        FieldViolation("answer.quantization", f"must have at most {MAX_NAME_CHARS} characters")
        if len(message.quantization) > MAX_NAME_CHARS
        else None,
    ]
    violations = [violation for violation in wrong if violation is not None]
    if violations:
        raise _refusal(violations)
    if not message.HasField("create_time"):
        message.create_time.FromDatetime(now)
    return answer_from_message(message)


def positive_duration(message: Duration, field: str) -> timedelta:
    """A stretch of time longer than nothing."""
    span = message.ToTimedelta()
    if span <= timedelta(0):
        raise InvalidArgument.field(field, "must be more than 0 s")
    return span


def _refusal(violations: list[FieldViolation]) -> InvalidArgument:
    names = ",".join(violation.field for violation in violations)
    text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidArgument(text, metadata={"fields": names}, fields=violations)
