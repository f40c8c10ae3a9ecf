"""What may go wrong with a generation, one class for each meaning."""

from __future__ import annotations

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError, FieldViolation, InvalidArgument

# When a caller may come back: soon for a full queue, later for a server that has to start again.
RETRY_WHEN_FULL_S = 0.25
RETRY_WHEN_DOWN_S = 1.0


class EmptyPrompt(FarthingError):
    """There is nothing to answer."""

    reason = ErrorReason.ERROR_REASON_EMPTY_PROMPT

    def __init__(self) -> None:
        super().__init__("the messages hold no text; send at least one message that is not empty")


class PromptTooLarge(FarthingError):
    """The prompt does not fit into the model's context."""

    reason = ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE

    @classmethod
    def in_bytes(cls, actual: int, limit: int) -> PromptTooLarge:
        """Refused before the call, by size."""
        return cls(
            f"the prompt has {actual} bytes, at most {limit} can be answered; shorten it",
            metadata={"limit_bytes": str(limit), "actual_bytes": str(actual)},
        )

    @classmethod
    def in_tokens(cls, limit: int, actual: int | None = None) -> PromptTooLarge:
        """Refused by the model, which counted; some engines do not say how many there were."""
        counted = {} if actual is None else {"actual_tokens": str(actual)}
        return cls(
            f"the prompt is longer than the model's context of {limit} tokens; shorten it, or ask a model with more",
            metadata={"limit_tokens": str(limit), **counted},
        )


class UnknownModel(FarthingError):
    """No pool serves the model."""

    reason = ErrorReason.ERROR_REASON_UNKNOWN_MODEL

    def __init__(self, model: str) -> None:
        super().__init__("no pool serves this model; ListModels names those that exist", metadata={"model": model})


class ModelUnavailable(FarthingError):
    """Pools serve the model, and none of their servers can run it now."""

    reason = ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE

    def __init__(self, model: str) -> None:
        super().__init__(
            "no server of this model can be used at the moment; try again shortly",
            metadata={"model": model},
            retry_after_s=RETRY_WHEN_DOWN_S,
        )


class GenerationLost(FarthingError):
    """The server failed after part of the answer had been sent. Another one would not go on with the same words."""

    reason = ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE

    def __init__(self, model: str) -> None:
        super().__init__(
            "the model's server failed in the middle of the answer; ask again",
            metadata={"model": model},
            retry_after_s=RETRY_WHEN_DOWN_S,
        )


class ModelFull(FarthingError):
    """Every server of the model runs as many generations as its pool allows, or refuses more by itself."""

    reason = ErrorReason.ERROR_REASON_OVERLOADED

    def __init__(self, model: str, **counts: int) -> None:
        super().__init__(
            "every server of this model has all the work it takes; try again shortly",
            metadata={"model": model, **{key: str(value) for key, value in counts.items()}},
            retry_after_s=RETRY_WHEN_FULL_S,
        )


class PoolNotFound(FarthingError):
    """The pools file has no pool of this name."""

    reason = ErrorReason.ERROR_REASON_NOT_FOUND

    def __init__(self, pool: str) -> None:
        super().__init__("there is no pool of this name; ListPools shows them", metadata={"kind": "pool", "id": pool})


class ServerFailure(Exception):
    """A server did not do its part; another one may. Callers never see it: the use case makes one of the above of it.

    `cause` is one of a few fixed words, for logs and metrics: the texts of engines may hold anything. `mends`: whether
    the same server, restarted, may well do it.
    """

    mends = False

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ServerUnreachable(ServerFailure):
    """The connection was refused or broke."""

    mends = True


class ServerFull(ServerFailure):
    """The server's own queue takes no more."""


class ModelNotLoaded(ServerFailure):
    """The server answers, but does not have the model."""

    mends = True


class ServerStalled(ServerFailure):
    """Nothing came from the server for too long."""


class EngineFailed(ServerFailure):
    """The model raised, or broke its contract. Says nothing about the server: it may be this one prompt."""


def invalid_fields(violations: list[FieldViolation]) -> InvalidArgument:
    """One refusal that names every field at fault."""
    text = "; ".join(f"{item.field}: {item.description}" for item in violations)
    names = ",".join(item.field for item in violations)
    return InvalidArgument(text, metadata={"fields": names}, fields=violations)
