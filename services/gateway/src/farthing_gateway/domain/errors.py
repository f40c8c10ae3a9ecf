"""What the gateway refuses, in words that a caller can act on."""

from __future__ import annotations

from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.charging import METADATA_KEY, Charged
from farthing_kit.errors import FarthingError, FieldViolation, InvalidArgument, NotFound, Unauthenticated

_R = ErrorReason
_RETRY: Final = "retry under the same idempotency key: a request is charged once"
_UNKNOWN: Final = {METADATA_KEY: Charged.UNKNOWN.value}

# A peer that fails in one of these ways is missing; any other reason is its answer.
OUTAGE_REASONS: Final = frozenset(
    {
        _R.ERROR_REASON_SERVICE_UNAVAILABLE,
        _R.ERROR_REASON_STORE_UNAVAILABLE,
        _R.ERROR_REASON_QUEUE_UNAVAILABLE,
        _R.ERROR_REASON_OVERLOADED,
        _R.ERROR_REASON_DEADLINE_TOO_SHORT,
        _R.ERROR_REASON_DEADLINE_EXCEEDED,
        _R.ERROR_REASON_CONTEXT_INVALID,
        _R.ERROR_REASON_INTERNAL,
    }
)


def is_outage(error: FarthingError) -> bool:
    """Whether a peer is missing, rather than saying no."""
    return error.reason in OUTAGE_REASONS


def may_be_done(error: FarthingError) -> bool:
    """Whether a peer may have done what it was asked, or may yet: it had no time to say, or its store had not."""
    out_of_time = error.reason in (_R.ERROR_REASON_DEADLINE_EXCEEDED, _R.ERROR_REASON_DEADLINE_TOO_SHORT)
    return out_of_time or error.metadata.get("outcome") == "unknown"


class EmptyPrompt(FarthingError):
    """There is nothing to answer."""

    reason = _R.ERROR_REASON_EMPTY_PROMPT


class PromptTooLarge(FarthingError):
    """The messages are longer than the mesh accepts."""

    reason = _R.ERROR_REASON_PROMPT_TOO_LARGE


class UnknownModel(FarthingError):
    """No pool serves the model or tier that was asked for."""

    reason = _R.ERROR_REASON_UNKNOWN_MODEL


class ModelUnavailable(FarthingError):
    """No model can be named now."""

    reason = _R.ERROR_REASON_MODEL_UNAVAILABLE


class AccountingUnavailable(FarthingError):
    """Accounting cannot be reached, and the policy says: then do not serve."""

    reason = _R.ERROR_REASON_ACCOUNTING_UNAVAILABLE


class IdempotencyMismatch(FarthingError):
    """The idempotency key was used before with another body."""

    reason = _R.ERROR_REASON_IDEMPOTENCY_MISMATCH


class AnswerGone(FarthingError):
    """The request was answered and charged, and its answer is not at hand to be told again."""

    reason = _R.ERROR_REASON_ANSWER_GONE


class InProgress(FarthingError):
    """The twin of the request still runs."""

    reason = _R.ERROR_REASON_IN_PROGRESS


class WorkerLost(FarthingError):
    """The stream of tokens ended without an end."""

    reason = _R.ERROR_REASON_WORKER_LOST


def empty_prompt() -> EmptyPrompt:
    """The error for a prompt that says nothing."""
    return EmptyPrompt("there is nothing to answer; send at least one message that is more than white space")


def prompt_too_large(limit_bytes: int, actual_bytes: int) -> PromptTooLarge:
    """The error for messages that are too long together."""
    return PromptTooLarge(
        f"the messages have {actual_bytes} bytes together, must be at most {limit_bytes}; send less",
        metadata={"limit_bytes": str(limit_bytes), "actual_bytes": str(actual_bytes)},
    )


def invalid_fields(violations: list[FieldViolation]) -> InvalidArgument:
    """One error that names every field at fault."""
    return InvalidArgument(
        "; ".join(f"{violation.field}: {violation.description}" for violation in violations),
        metadata={"fields": ",".join(violation.field for violation in violations)},
        fields=violations,
    )


def unknown_model(name: str) -> UnknownModel:
    """The error for a model that no pool serves."""
    return UnknownModel("no pool serves the model that was asked for; ListModels names those that exist",
                        metadata={"model": name})  # fmt: skip


def no_catalogue(retry_after_s: float) -> ModelUnavailable:
    """The error while the gateway has never learnt which models exist."""
    return ModelUnavailable("the models of the mesh are not known yet; try again shortly", retry_after_s=retry_after_s)


def key_invalid() -> Unauthenticated:
    """The error for a missing, malformed or unknown key: the three look the same on purpose."""
    return Unauthenticated("no API key that this mesh knows; send `authorization: Bearer <API key>`")


def accounting_unavailable(policy: str, retry_after_s: float = 1.0) -> AccountingUnavailable:
    """The error while accounting is away; `policy` says why that means no: deny, grace_spent, prices_unknown,
    no_grant."""
    return AccountingUnavailable(
        "accounting cannot be reached, and without it this request may not be served; try again shortly",
        metadata={"policy": policy},
        retry_after_s=retry_after_s,
    )


def idempotency_mismatch() -> IdempotencyMismatch:
    """The error for a key that was used with another body. The key itself is the caller's text: it is not repeated."""
    return IdempotencyMismatch("this idempotency key was used before with another body; choose a new key")


def in_progress() -> InProgress:
    """The error while the twin runs."""
    return InProgress("a call with this idempotency key is still running; wait for it, then retry", retry_after_s=0.5)


def answer_gone(request_id: str) -> AnswerGone:
    """The error for a repetition of a request that was answered, and whose answer is not kept."""
    return AnswerGone(
        "the request of this idempotency key was answered and charged, and its answer is not kept any more; choose a "
        "new key to ask again",
        metadata={"request_id": request_id},
    )


def worker_lost() -> WorkerLost:
    """The error for a stream that just stopped: what became of the worker, nobody said."""
    return WorkerLost(f"the answer broke off before its end; {_RETRY}", metadata=_UNKNOWN)


def told_otherwise() -> WorkerLost:
    """The error for an answer that was begun by one model call, and begins otherwise when another takes over."""
    return WorkerLost(f"the answer broke off, and began otherwise when it was made again; {_RETRY}", metadata=_UNKNOWN)


def no_outcome_wanted() -> NotFound:
    """The error for an outcome of a request that is unknown, somebody else's, or about which nothing was foretold: they
    look the same, so that nobody learns which requests others made."""
    return NotFound(
        "nothing was foretold about a request of yours with this id; outcomes are taken for answers of models that the "
        "mesh chose itself, within the time that decisions are kept",
        metadata={"kind": "request"},
    )
