"""Answers, keys and meanings as messages of farthing.cache.v1, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from google.protobuf.duration_pb2 import Duration

from farthing.accounting.v1.policy_pb2 import CacheScope
from farthing.cache.v1.cache_service_pb2 import (
    AnalyzeRequest,
    AnalyzeResponse,
    CachedAnswer,
    CacheSimulation,
    VetoCount,
)
from farthing.cache.v1.cache_service_pb2 import CacheKey as CacheKeyMessage
from farthing.cache.v1.cache_service_pb2 import Meaning as MeaningMessage
from farthing.type.v1.model_pb2 import FinishReason
from farthing.type.v1.money_pb2 import Money
from farthing_cache.domain.analysis import Analysis, Question, Simulation
from farthing_cache.domain.answer import DIGEST_BYTES, TEAM, USER, Answer, CacheKey
from farthing_cache.domain.hitlog import VETOES
from farthing_cache.domain.neighbours import Meaning
from farthing_kit import labels
from farthing_kit.context import Principal
from farthing_kit.errors import FieldViolation, InvalidArgument
from farthing_kit.wire import moment_from_message, span_from_message, usage_from_message, usage_to_message

MAX_NAME_CHARS = 128
MAX_CHOICES = 8
MAX_DIMENSION = 4096
UNIT_SLACK = 0.01
VETO_NAMES = {number: name for name, number in VETOES.items()}


def key_from_message(message: CacheKeyMessage, principal: Principal) -> CacheKey:
    """The key; refuses digests that are not SHA-256, and circles that the principal names nobody of."""
    digests = {
        "key.compatibility_digest": message.compatibility_digest,
        "key.prompt_digest": message.prompt_digest,
    }
    wrong = [
        FieldViolation(name, f"must have {DIGEST_BYTES} bytes")
        for name, digest in digests.items()
        if len(digest) != DIGEST_BYTES
    ]
    named = {CacheScope.CACHE_SCOPE_TEAM: principal.team, CacheScope.CACHE_SCOPE_USER: principal.user}
    if message.scope in named and not named[message.scope]:
        wrong.append(
            FieldViolation("key.scope", "must be one that the caller's key names: it has no such team or user")
        )
    if wrong:
        raise _refusal(wrong)
    prefix = {CacheScope.CACHE_SCOPE_TEAM: TEAM, CacheScope.CACHE_SCOPE_USER: USER}.get(message.scope, "")
    return CacheKey(message.compatibility_digest, message.prompt_digest, prefix + named.get(message.scope, ""))


def meaning_from_message(message: MeaningMessage, limit_chars: int) -> Meaning:
    """What a request means; refuses what is no unit vector of a named encoder."""
    vector = np.frombuffer(message.embedding, "<f4") if len(message.embedding) % 4 == 0 else np.zeros(0, np.float32)
    length = float(np.linalg.norm(vector)) if vector.size else 0.0
    wrong = [
        FieldViolation("meaning.embedding", f"must be a unit vector of 32 to {MAX_DIMENSION} packed 32-bit floats")
        if not (32 <= vector.size <= MAX_DIMENSION and abs(length - 1) < UNIT_SLACK)
        else None,
        FieldViolation("meaning.encoder_sha256", f"must have {DIGEST_BYTES} bytes")
        if len(message.encoder_sha256) != DIGEST_BYTES
        else None,
        FieldViolation("meaning.text", "must not be empty") if not message.text.strip() else None,
    ]
    violations = [violation for violation in wrong if violation is not None]
    if violations:
        raise _refusal(violations)
    long = len(message.text) > limit_chars
    return Meaning(
        vector.astype(np.float32) / np.float32(length),
        message.encoder_sha256,
        message.text[:limit_chars],
        message.has_history,
        message.truncated or long,
    )


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
        created_at=moment_from_message(message.create_time, "answer.create_time"),
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


def tags_from_message(tags: Sequence[str]) -> tuple[str, ...]:
    """By what an answer may be forgotten."""
    if len(tags) > labels.MAX_TAGS:
        raise InvalidArgument.field("tags", f"are {len(tags)}, must be at most {labels.MAX_TAGS}")
    fault = next(filter(None, map(labels.fault, tags)), None)
    if fault is not None:
        raise InvalidArgument.field("tags", f"a tag {fault}")
    return tuple(sorted(set(tags)))


def positive_duration(message: Duration, field: str) -> timedelta:
    """A stretch of time longer than nothing."""
    span = span_from_message(message, field)
    if span <= timedelta(0):
        raise InvalidArgument.field(field, "must be more than 0 s")
    return span


def _refusal(violations: list[FieldViolation]) -> InvalidArgument:
    names = ",".join(violation.field for violation in violations)
    text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidArgument(text, metadata={"fields": names}, fields=violations)


def question_from_message(message: AnalyzeRequest) -> Question:
    """What to simulate; what is not set is chosen here."""
    lists = {"thresholds": message.thresholds, "lives": message.lives, "sizes": message.sizes}
    wrong = [
        FieldViolation(name, f"must be at most {MAX_CHOICES}")
        for name, given in lists.items()
        if len(given) > MAX_CHOICES
    ]
    if not all(0.0 <= threshold <= 1.0 for threshold in message.thresholds):  # NaN fails too
        wrong.append(FieldViolation("thresholds", "must each be 0 to 1"))
    if wrong:
        raise _refusal(wrong)
    plain = Question()
    return Question(
        positive_duration(message.window, "window") if message.HasField("window") else None,
        tuple(message.thresholds) or plain.thresholds,
        tuple(positive_duration(life, "lives") for life in message.lives) or plain.lives,
        tuple(max(0, size) for size in message.sizes) or plain.sizes,
    )


def analysis_to_message(analyzed: tuple[Analysis, int]) -> AnalyzeResponse:
    """What the analysis found."""
    found, dropped = analyzed
    losses = found.losses
    message = AnalyzeResponse(
        lookups=found.looks,
        exact_hits=found.exact,
        semantic_hits=found.semantic,
        repeats=found.repeats,
        near_repeats=found.near_repeats,
        lost_to_expiry=losses.expiry,
        lost_to_partitioning=losses.partitioning,
        lost_to_veto=[VetoCount(veto=VETO_NAMES.get(veto, "?"), count=n) for veto, n in losses.veto.most_common()],
        lost_to_threshold=losses.threshold,
        lost_to_evidence=losses.evidence,
        shared_prefixes=found.shared_prefixes,
        avoided=_money(found.avoided),
        simulations=[_simulation(one) for one in found.simulations],
        recommendation=_simulation(found.advised) if found.advised else None,
        advice=found.advice,
        dropped=dropped,
    )
    if found.looks:
        message.start_time.FromMilliseconds(found.start_ms)
        message.end_time.FromMilliseconds(found.end_ms)
    return message


def _simulation(one: Simulation) -> CacheSimulation:
    message = CacheSimulation(
        threshold=one.settings.threshold,
        size=one.settings.size,
        exact_hits=one.exact,
        semantic_hits=one.semantic,
        hit_share=one.share,
        avoided=_money(one.avoided),
    )
    message.life.FromTimedelta(one.settings.life)
    return message


def _money(nano_usd: int) -> Money:
    return Money(currency_code="USD", nano_units=nano_usd)
