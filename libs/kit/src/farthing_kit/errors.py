"""What may go wrong, in words that a caller can act on. Needs no network library: domain packages subclass these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farthing.type.v1.error_reason_pb2 import ErrorReason


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be taken as it is."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that the request does not fit into: `subject` names the scope, such as "org:acme"."""

    subject: str
    description: str


class FarthingError(Exception):
    """A failure with a reason. The text goes to the caller as it is: it says what to do next, and holds no secret.

    A subclass sets `reason`; the status code follows from it (`farthing_kit.status`). `metadata` becomes
    ErrorInfo.metadata, `retry_after_s` RetryInfo, `fields` BadRequest, `quotas` QuotaFailure.
    """

    reason: ErrorReason.ValueType = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: ErrorReason.ValueType | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        fields: Sequence[FieldViolation] = (),
        quotas: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.fields = tuple(fields)
        self.quotas = tuple(quotas)

    @property
    def reason_name(self) -> str:
        """The name of the reason as callers see it, such as "ERROR_REASON_OVERLOADED"."""
        return ErrorReason.Name(self.reason)


class InvalidArgument(FarthingError):
    """The request cannot be taken as it is; `fields` names each culprit."""

    reason = ErrorReason.ERROR_REASON_INVALID_FIELD

    @classmethod
    def field(cls, name: str, description: str) -> InvalidArgument:
        """The usual case: one field is wrong. The description ends "…, must be …"."""
        return cls(f"{name}: {description}", metadata={"fields": name}, fields=(FieldViolation(name, description),))


class MalformedMessage(FarthingError):
    """The bytes are no message of the method's type."""

    reason = ErrorReason.ERROR_REASON_MALFORMED_MESSAGE


class MessageTooLarge(FarthingError):
    """The serialised message is over the limit."""

    reason = ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE


class NotFound(FarthingError):
    """What the call names does not exist, or is not the caller's."""

    reason = ErrorReason.ERROR_REASON_NOT_FOUND


class Unauthenticated(FarthingError):
    """No API key that the mesh knows."""

    reason = ErrorReason.ERROR_REASON_KEY_INVALID


class ContextInvalid(FarthingError):
    """A call inside the mesh without a valid signed request context."""

    reason = ErrorReason.ERROR_REASON_CONTEXT_INVALID


class PermissionDenied(FarthingError):
    """The caller is known, and may not do this."""

    reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED


class Unavailable(FarthingError):
    """Another part of the mesh cannot be reached; trying again later may help."""

    reason = ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE


class StoreUnavailable(FarthingError):
    """Redis or PostgreSQL cannot be reached."""

    reason = ErrorReason.ERROR_REASON_STORE_UNAVAILABLE


class QueueUnavailable(FarthingError):
    """JetStream, or the journal in front of it, takes no more."""

    reason = ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE


class Overloaded(FarthingError):
    """This replica has more work than it can do in time."""

    reason = ErrorReason.ERROR_REASON_OVERLOADED


class DeadlineTooShort(FarthingError):
    """Too little of the deadline is left; nothing was started."""

    reason = ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT


class DeadlineExceeded(FarthingError):
    """The deadline passed while the work ran: some of it, or all, may be done."""

    reason = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


class Cancelled(FarthingError):
    """The caller went away, or asked for the work to stop."""

    reason = ErrorReason.ERROR_REASON_CANCELLED


class InternalError(FarthingError):
    """A defect. Callers read only "internal" and the id of the log line."""

    reason = ErrorReason.ERROR_REASON_INTERNAL
