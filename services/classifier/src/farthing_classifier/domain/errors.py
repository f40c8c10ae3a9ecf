"""What the classifier refuses."""

from __future__ import annotations

from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError

RETRY_AFTER_S: Final = 0.05


class EmptyPrompt(FarthingError):
    """There is nothing to judge: no message, or only white space."""

    reason = ErrorReason.ERROR_REASON_EMPTY_PROMPT

    def __init__(self) -> None:
        super().__init__("the prompt is empty: send at least one message with text")


class TooManyWaiting(FarthingError):
    """More prompts wait for the encoder than may."""

    reason = ErrorReason.ERROR_REASON_OVERLOADED

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(
            "the classifier has more prompts than it can judge in time; try again shortly",
            metadata={"in_flight": str(waiting), "limit": str(limit)},
            retry_after_s=RETRY_AFTER_S,
        )


class AnswerTooLarge(FarthingError):
    """An answer, or its reference, is longer than one that can be examined."""

    reason = ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the answer has more than {limit} bytes; answers as long as that are not examined",
            metadata={"limit_bytes": str(limit), "actual_bytes": str(size)},
        )
