"""The one place where an error's reason becomes a gRPC status, and a status an error again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit import errors
from farthing_kit.errors import FarthingError, FieldViolation, QuotaViolation

DOMAIN: Final = "farthing.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
# What gRPC's own retries obey: they do not read RetryInfo (gRFC A6).
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

_R = ErrorReason
_C = grpc.StatusCode
_REASONS: Final = frozenset(ErrorReason.keys())
_M = TypeVar("_M", bound=Message)

# The status code of each reason. A test holds it complete over the enum, and true to the comments in the proto.
STATUS_OF_REASON: Final[dict[ErrorReason.ValueType, grpc.StatusCode]] = {
    _R.ERROR_REASON_UNSPECIFIED: _C.INTERNAL,
    _R.ERROR_REASON_INVALID_FIELD: _C.INVALID_ARGUMENT,
    _R.ERROR_REASON_MALFORMED_MESSAGE: _C.INVALID_ARGUMENT,
    _R.ERROR_REASON_EMPTY_PROMPT: _C.INVALID_ARGUMENT,
    _R.ERROR_REASON_PROMPT_TOO_LARGE: _C.INVALID_ARGUMENT,
    _R.ERROR_REASON_MESSAGE_TOO_LARGE: _C.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_UNKNOWN_MODEL: _C.NOT_FOUND,
    _R.ERROR_REASON_NOT_FOUND: _C.NOT_FOUND,
    _R.ERROR_REASON_KEY_INVALID: _C.UNAUTHENTICATED,
    _R.ERROR_REASON_KEY_REVOKED: _C.UNAUTHENTICATED,
    _R.ERROR_REASON_CONTEXT_INVALID: _C.UNAUTHENTICATED,
    _R.ERROR_REASON_PERMISSION_DENIED: _C.PERMISSION_DENIED,
    _R.ERROR_REASON_BUDGET_EXCEEDED: _C.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_QUOTA_EXCEEDED: _C.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_ACCOUNTING_UNAVAILABLE: _C.UNAVAILABLE,
    _R.ERROR_REASON_PRICE_MISSING: _C.FAILED_PRECONDITION,
    _R.ERROR_REASON_IDEMPOTENCY_MISMATCH: _C.INVALID_ARGUMENT,
    _R.ERROR_REASON_RESERVATION_CLOSED: _C.FAILED_PRECONDITION,
    _R.ERROR_REASON_OVERLOADED: _C.UNAVAILABLE,
    _R.ERROR_REASON_DEADLINE_TOO_SHORT: _C.DEADLINE_EXCEEDED,
    _R.ERROR_REASON_MODEL_UNAVAILABLE: _C.UNAVAILABLE,
    _R.ERROR_REASON_QUEUE_UNAVAILABLE: _C.UNAVAILABLE,
    _R.ERROR_REASON_WORKER_LOST: _C.UNAVAILABLE,
    _R.ERROR_REASON_STORE_UNAVAILABLE: _C.UNAVAILABLE,
    _R.ERROR_REASON_SERVICE_UNAVAILABLE: _C.UNAVAILABLE,
    _R.ERROR_REASON_INTERNAL: _C.INTERNAL,
    _R.ERROR_REASON_CANCELLED: _C.CANCELLED,
    _R.ERROR_REASON_IN_PROGRESS: _C.ABORTED,
    _R.ERROR_REASON_ANSWER_GONE: _C.FAILED_PRECONDITION,
    _R.ERROR_REASON_DEADLINE_EXCEEDED: _C.DEADLINE_EXCEEDED,
}

# Which class a remote error is rebuilt as. Reasons that are not here stay plain FarthingErrors: branch on `.reason`. A
# test over every error of the mesh holds that each comes back with its reason and as (a kind of) its class.
_CLASS_OF_REASON: Final[dict[ErrorReason.ValueType, type[FarthingError]]] = {
    _R.ERROR_REASON_KEY_REVOKED: errors.Unauthenticated,
} | {
    kind.reason: kind
    for kind in (
        errors.InvalidArgument,
        errors.MalformedMessage,
        errors.MessageTooLarge,
        errors.NotFound,
        errors.Unauthenticated,
        errors.ContextInvalid,
        errors.PermissionDenied,
        errors.Unavailable,
        errors.StoreUnavailable,
        errors.QueueUnavailable,
        errors.Overloaded,
        errors.DeadlineTooShort,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.InternalError,
    )
}

# What a status without our ErrorInfo means: the transport, a proxy or a foreign server made it.
_CLASS_OF_BARE_CODE: Final[dict[grpc.StatusCode, type[FarthingError]]] = {
    _C.INVALID_ARGUMENT: errors.InvalidArgument,
    _C.NOT_FOUND: errors.NotFound,
    _C.UNAUTHENTICATED: errors.ContextInvalid,
    _C.PERMISSION_DENIED: errors.PermissionDenied,
    _C.UNAVAILABLE: errors.Unavailable,
    _C.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    # Not by us, or there would be no status to read: a server that closes drops what its caller sent before it knew.
    _C.CANCELLED: errors.Unavailable,
    _C.RESOURCE_EXHAUSTED: errors.Overloaded,
}
# gRPC's words for a message that is too large, on either side.
_SIZES: Final = re.compile(r"\((\d+) vs\. (\d+)\)")
_BARE_MESSAGE: Final[dict[type[FarthingError], str]] = {
    errors.Unavailable: "cannot be reached; try again shortly",
    errors.DeadlineExceeded: "did not answer within the deadline; allow more time or try again",
    errors.Overloaded: "has too many calls at once; try again shortly",
    errors.MessageTooLarge: "the message is larger than its limit; send less",
    errors.InternalError: "internal",
}


def code_of(error: FarthingError) -> grpc.StatusCode:
    """The status code that goes with an error's reason."""
    return STATUS_OF_REASON[error.reason]


def to_status(error: FarthingError) -> Status:
    """The google.rpc.Status of an error: ErrorInfo always, the other details where the error has them."""
    details: list[Message] = [ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=error.metadata)]
    if error.retry_after_s is not None:
        details.append(RetryInfo(retry_delay=_duration(error.retry_after_s)))
    if error.fields:
        violations = [BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.fields]
        details.append(BadRequest(field_violations=violations))
    if error.quotas:
        quotas = [QuotaFailure.Violation(subject=v.subject, description=v.description) for v in error.quotas]
        details.append(QuotaFailure(violations=quotas))
    return Status(code=code_of(error).value[0], message=error.message, details=[_pack(item) for item in details])


def trailers(error: FarthingError) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries an error's details."""
    pairs: list[tuple[str, str | bytes]] = [(DETAILS_KEY, to_status(error).SerializeToString())]
    if error.retry_after_s is not None:
        pairs.append((PUSHBACK_KEY, str(round(error.retry_after_s * 1000))))
    return tuple(pairs)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> FarthingError:
    """The error that the other side raised, or what a bare status of the transport amounts to for the caller."""
    status = _status_of(error)
    info = _detail(status, ErrorInfo) if status is not None else None
    if status is None or info is None or info.domain != DOMAIN or info.reason not in _REASONS:
        return _bare(error, service)
    return _rebuilt(status, info)


def _rebuilt(status: Status, info: ErrorInfo) -> FarthingError:
    reason = _R.Value(info.reason)
    retry, bad, quota = _detail(status, RetryInfo), _detail(status, BadRequest), _detail(status, QuotaFailure)
    return _CLASS_OF_REASON.get(reason, FarthingError)(
        status.message,
        reason=reason,
        metadata=info.metadata,
        retry_after_s=_seconds(retry.retry_delay) if retry else None,
        fields=[FieldViolation(v.field, v.description) for v in bad.field_violations] if bad else (),
        quotas=[QuotaViolation(v.subject, v.description) for v in quota.violations] if quota else (),
    )


def _bare(error: grpc.aio.AioRpcError, service: str) -> FarthingError:
    kind = _CLASS_OF_BARE_CODE.get(error.code(), errors.InternalError)
    if kind is errors.Overloaded and "larger than max" in (error.details() or ""):
        kind = errors.MessageTooLarge
    sizes = _SIZES.search(error.details() or "") if kind is errors.MessageTooLarge else None
    message = _BARE_MESSAGE.get(kind, error.code().name.lower().replace("_", " "))
    text = message if kind is errors.InternalError else f"{service}: {message}"
    metadata = {"service": service, "code": error.code().name}
    if sizes is not None:
        metadata.update(actual_bytes=sizes[1], limit_bytes=sizes[2])
        text = f"{service}: the message has {sizes[1]} bytes, must have at most {sizes[2]}; send less"
    return kind(text, metadata=metadata)


def _status_of(error: grpc.aio.AioRpcError) -> Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                return None
    return None


def _detail(status: Status, kind: type[_M]) -> _M | None:
    return _unpack(status.details, kind)


def _unpack(details: Sequence[AnyMessage], kind: type[_M]) -> _M | None:
    for packed in details:
        message = kind()
        if packed.Is(message.DESCRIPTOR):
            packed.Unpack(message)
            return message
    return None


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
