"""What an error says about money: whether the call that it ended is charged. The scheduler knows and says so; the
gateway holds or releases by it. This is the one list of both."""

from __future__ import annotations

from enum import Enum
from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError

METADATA_KEY: Final = "charged"
_R = ErrorReason


class Charged(Enum):
    """Whether a call that ended with an error is charged."""

    YES = "yes"
    """What was written is booked; the usage event settles the reservation."""
    NO = "no"
    """Nothing is booked: whoever made the reservation may release it at once."""
    UNKNOWN = "unknown"
    """Nobody can say yet: the reservation is left to the usage event, which settles it or voids it."""


# Refusals: the call was not begun. After any other reason, an error that does not say so itself leaves it open.
_REFUSALS: Final = frozenset(
    {
        _R.ERROR_REASON_INVALID_FIELD,
        _R.ERROR_REASON_MALFORMED_MESSAGE,
        _R.ERROR_REASON_EMPTY_PROMPT,
        _R.ERROR_REASON_PROMPT_TOO_LARGE,
        _R.ERROR_REASON_MESSAGE_TOO_LARGE,
        _R.ERROR_REASON_UNKNOWN_MODEL,
        _R.ERROR_REASON_NOT_FOUND,
        _R.ERROR_REASON_KEY_INVALID,
        _R.ERROR_REASON_KEY_REVOKED,
        _R.ERROR_REASON_CONTEXT_INVALID,
        _R.ERROR_REASON_PERMISSION_DENIED,
        _R.ERROR_REASON_BUDGET_EXCEEDED,
        _R.ERROR_REASON_QUOTA_EXCEEDED,
        _R.ERROR_REASON_ACCOUNTING_UNAVAILABLE,
        _R.ERROR_REASON_PRICE_MISSING,
        _R.ERROR_REASON_IDEMPOTENCY_MISMATCH,
        _R.ERROR_REASON_RESERVATION_CLOSED,
        _R.ERROR_REASON_IN_PROGRESS,
        _R.ERROR_REASON_ANSWER_GONE,
    }
)


def charged_after(error: FarthingError) -> Charged:
    """What an error says: its own word, or what follows from its reason."""
    said = error.metadata.get(METADATA_KEY)
    if said in {charged.value for charged in Charged}:
        return Charged(said)
    return Charged.NO if error.reason in _REFUSALS else Charged.UNKNOWN


def saying(error: FarthingError, charged: Charged) -> FarthingError:
    """The same error, which says so."""
    error.metadata[METADATA_KEY] = charged.value
    return error
