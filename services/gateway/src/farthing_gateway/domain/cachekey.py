"""The identity of a request for the caches: what must be equal for one answer to stand for another."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.canonical import Canonical
from farthing_gateway.domain.prompt import Message, Question


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Two digests: everything that shapes an answer besides the last message, and the last message."""

    compatibility: bytes
    prompt: bytes


def cache_key(question: Question, policy_version: int) -> CacheKey:
    """The key within the organisation, which is not part of it: partitions are made by the cache from the signed
    context.

    Earlier messages, the system prompt among them, belong to the compatibility digest: the same last words after
    another history are another question. Cache control, tags, priority and session shape no answer and are left out.
    """
    return CacheKey(_compatibility(question, policy_version), _last_message(question))


def _compatibility(question: Question, policy_version: int) -> bytes:
    sampling = question.sampling
    form = (
        Canonical(b"farthing compatibility v2")
        .integer(policy_version)
        .integer(question.tier)
        .text(question.model)
        .integer(sampling.max_output_tokens)
        .real(sampling.temperature)
        .real(sampling.top_p)
        .integer(sampling.seed)
        .texts(sampling.stop)
        .real(question.quality_floor or 0.0)  # a lesser tier's answer must not serve who asked for a better one
    )
    earlier = question.messages[:-1]
    form.integer(len(earlier))
    for message in earlier:
        _write(form, message)
    return form.digest()


def _last_message(question: Question) -> bytes:
    form = Canonical(b"farthing prompt v1")
    _write(form, question.messages[-1])
    return form.digest()


def _write(form: Canonical, message: Message) -> None:
    form.integer(message.role).text(message.content)
