"""What the cache refuses, in words that a caller can act on."""

from __future__ import annotations

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError, NotFound, Overloaded, PermissionDenied, StoreUnavailable


class AnswerTooLarge(FarthingError):
    """The answer exceeds the limit of an entry."""

    reason = ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE

    @classmethod
    def of(cls, size_bytes: int, limit_bytes: int) -> AnswerTooLarge:
        """The error for an answer of `size_bytes`."""
        return cls(
            f"the answer has {size_bytes} bytes, an entry at most {limit_bytes}; it is not kept",
            metadata={"limit_bytes": str(limit_bytes), "actual_bytes": str(size_bytes)},
        )


class IdempotencyMismatch(FarthingError):
    """The same key came before, with another body."""

    reason = ErrorReason.ERROR_REASON_IDEMPOTENCY_MISMATCH

    def __init__(self, idempotency_key: str) -> None:
        super().__init__(
            "the idempotency key was used before with another body, so nothing was forgotten; choose a new one",
            metadata={"idempotency_key": idempotency_key},
        )


def gateways_not_told() -> StoreUnavailable:
    """The error when a partition was forgotten, and the word of it did not get out."""
    return StoreUnavailable(
        "the answers are forgotten, but the gateways could not be told; repeat the call with the same key",
        metadata={"store": "nats"},
        retry_after_s=1.0,
    )


def not_your_partition(method: str) -> PermissionDenied:
    """The error for a tenant that names another organisation."""
    return PermissionDenied(
        "only an operator may name an organisation; leave `org` empty for your own",
        metadata={"role": "TENANT", "method": method},
    )


def lease_lost() -> NotFound:
    """The error for who publishes under a lease that is not theirs any more."""
    return NotFound(
        "another caller makes this answer now; finish yours for your own caller only",
        metadata={"kind": "lease", "id": ""},
    )


def nobody_to_follow() -> NotFound:
    """The error for who follows an answer that nobody makes."""
    return NotFound(
        "nobody makes this answer, or not as it began; generate it yourself", metadata={"kind": "flight", "id": ""}
    )


def too_many_followers() -> Overloaded:
    """The error for one more who would wait for an answer that is being made."""
    return Overloaded(
        "too many calls of this replica are waiting for answers; follow again shortly, or generate it yourself",
        retry_after_s=0.3,
    )


class VerifierError(Exception):
    """The verifier could not score a pair. The look-up is a miss."""
