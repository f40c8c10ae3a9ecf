"""What accounting refuses, each with its reason and what to do next."""

from __future__ import annotations

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError, InvalidArgument, NotFound, QuotaViolation, Unauthenticated

__all__ = [
    "BudgetExceeded",
    "IdempotencyMismatch",
    "InvalidArgument",
    "KeyInvalid",
    "KeyRevoked",
    "PriceMissing",
    "QuotaExceeded",
    "ReservationClosed",
    "unknown_key",
]


class KeyInvalid(Unauthenticated):
    """Malformed, unknown, or with a wrong secret: the three look the same, so that nobody can probe for key ids."""

    def __init__(self) -> None:
        super().__init__("the API key is not valid; check it, or ask an operator for a new one")


class KeyRevoked(Unauthenticated):
    """The secret is right, but the key has ended."""

    reason = ErrorReason.ERROR_REASON_KEY_REVOKED

    def __init__(self, key_id: str) -> None:
        super().__init__(
            "the API key was revoked or has expired; ask an operator for a new one", metadata={"key_id": key_id}
        )


class BudgetExceeded(FarthingError):
    """A budget of money has less left than the reservation needs."""

    reason = ErrorReason.ERROR_REASON_BUDGET_EXCEEDED

    def __init__(self, scope: str, window: str, remaining: int) -> None:
        text = f"the budget of {scope} for this {window} is too small for this request; wait for the next, or raise it"
        super().__init__(
            text,
            metadata={"scope": scope, "window": window, "remaining_nano_usd": str(remaining)},
            quotas=[QuotaViolation(scope, f"{remaining} nano-dollars are left this {window}")],
        )


class QuotaExceeded(FarthingError):
    """A limit on tokens or on requests in flight has no room for the reservation."""

    reason = ErrorReason.ERROR_REASON_QUOTA_EXCEEDED

    def __init__(self, scope: str, window: str, quantity: str, remaining: int, retry_after_s: float) -> None:
        super().__init__(
            f"the limit on {quantity} of {scope} is reached; come back after the time that RetryInfo names",
            metadata={"scope": scope, "window": window, "quantity": quantity, "remaining": str(remaining)},
            retry_after_s=retry_after_s,
            quotas=[QuotaViolation(scope, f"{quantity}: {remaining} left")],
        )


class PriceMissing(FarthingError):
    """Without a price there is no exact cost, so the request is not admitted."""

    reason = ErrorReason.ERROR_REASON_PRICE_MISSING

    def __init__(self, model: str) -> None:
        super().__init__(f"the model {model!r} has no price; set one with PriceService", metadata={"model": model})


class IdempotencyMismatch(FarthingError):
    """The same key came before, with another body."""

    reason = ErrorReason.ERROR_REASON_IDEMPOTENCY_MISMATCH

    def __init__(self, idempotency_key: str) -> None:
        super().__init__(
            "the idempotency key was used before with another body; choose a new one",
            metadata={"idempotency_key": idempotency_key},
        )


class ReservationClosed(FarthingError):
    """Nothing is held under this id any more."""

    reason = ErrorReason.ERROR_REASON_RESERVATION_CLOSED

    def __init__(self, reservation_id: str, state: str) -> None:
        super().__init__(
            f"the reservation is {state}; reserve under a new id",
            metadata={"reservation_id": reservation_id, "state": state},
        )


def unknown_key(key_id: str) -> NotFound:
    """No key has this id."""
    return NotFound("no API key has this id; ListKeys names those that exist", metadata={"kind": "key", "id": key_id})
