"""Whether a call that ended with an error is charged: said for every reason there is."""

from __future__ import annotations

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.charging import Charged, charged_after, saying
from farthing_kit.errors import FarthingError

# After these a call may have been begun, so that an error which does not say leaves it open.
OPEN = {
    "UNSPECIFIED",
    "OVERLOADED",
    "DEADLINE_TOO_SHORT",
    "DEADLINE_EXCEEDED",
    "MODEL_UNAVAILABLE",
    "QUEUE_UNAVAILABLE",
    "WORKER_LOST",
    "STORE_UNAVAILABLE",
    "SERVICE_UNAVAILABLE",
    "INTERNAL",
    "CANCELLED",
}
# These refuse a call that was not begun.
REFUSALS = {
    "INVALID_FIELD",
    "MALFORMED_MESSAGE",
    "EMPTY_PROMPT",
    "PROMPT_TOO_LARGE",
    "MESSAGE_TOO_LARGE",
    "UNKNOWN_MODEL",
    "NOT_FOUND",
    "KEY_INVALID",
    "KEY_REVOKED",
    "CONTEXT_INVALID",
    "PERMISSION_DENIED",
    "BUDGET_EXCEEDED",
    "QUOTA_EXCEEDED",
    "ACCOUNTING_UNAVAILABLE",
    "PRICE_MISSING",
    "IDEMPOTENCY_MISMATCH",
    "RESERVATION_CLOSED",
    "IN_PROGRESS",
    "ANSWER_GONE",
}


@pytest.mark.parametrize("name", ErrorReason.keys())
def test_every_reason_says_whether_a_call_is_charged_that_ended_with_it(name: str) -> None:
    short = name.removeprefix("ERROR_REASON_")
    assert (short in OPEN) != (short in REFUSALS), "a new reason: may a call that ends with it have been begun?"
    error = FarthingError("no", reason=ErrorReason.Value(name))
    assert charged_after(error) is (Charged.UNKNOWN if short in OPEN else Charged.NO)


@pytest.mark.parametrize("charged", Charged)
def test_an_error_s_own_word_counts(charged: Charged) -> None:
    error = FarthingError("no", reason=ErrorReason.ERROR_REASON_IN_PROGRESS)
    assert charged_after(saying(error, charged)) is charged


def test_a_word_that_nobody_knows_counts_for_nothing() -> None:
    error = FarthingError("no", reason=ErrorReason.ERROR_REASON_INTERNAL, metadata={"charged": "perhaps"})
    assert charged_after(error) is Charged.UNKNOWN
