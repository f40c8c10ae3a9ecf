"""Whether a prompt can be taken: every limit that a caller can break, all violations named at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from farthing_gateway.domain.errors import empty_prompt, invalid_fields, prompt_too_large
from farthing_gateway.domain.model import Role, Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import AskedSampling, CacheControl, Message, Prompt, Question, Sampling
from farthing_kit.context import Priority
from farthing_kit.errors import FieldViolation

_ROLES: Final = frozenset(Role)
_TIERS: Final = frozenset(Tier)
_PRIORITIES: Final = frozenset({0, *Priority})
DEFAULT_TOP_P: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a prompt may have at most; the numbers are the contract's."""

    messages: int = 256
    prompt_bytes: int = 1024 * 1024
    output_tokens: int = 8192
    stops: int = 4
    stop_chars: int = 64
    tags: int = 8
    tag_chars: int = 64
    name_chars: int = 128
    idempotency_key_chars: int = 128
    session_id_chars: int = 128


def accept(prompt: Prompt, policy: Policy, limits: Limits) -> Question:
    """The prompt with every default filled in; EmptyPrompt, PromptTooLarge, or InvalidArgument naming each field."""
    _require_something(prompt.messages)
    _require_size(prompt.messages, limits)
    violations = list(_violations(prompt, policy, limits))
    if violations:
        raise invalid_fields(violations)
    asked = prompt.sampling
    return Question(
        messages=prompt.messages,
        sampling=Sampling(
            max_output_tokens=_ceiling(policy, limits) if asked.max_output_tokens is None else asked.max_output_tokens,
            temperature=0.0 if asked.temperature is None else asked.temperature,
            top_p=DEFAULT_TOP_P if asked.top_p is None else asked.top_p,
            seed=asked.seed,
            stop=asked.stop,
        ),
        tier=Tier(prompt.tier),
        model=prompt.model,
        cache_control=prompt.cache_control,
        tags=prompt.tags,
        session_id=prompt.session_id,
        quality_floor=prompt.quality_floor,
    )


def _require_something(messages: tuple[Message, ...]) -> None:
    # The last message is the question: without it there is nothing to answer, whatever came before.
    if not messages or not messages[-1].content or messages[-1].content.isspace():
        raise empty_prompt()


def _require_size(messages: tuple[Message, ...], limits: Limits) -> None:
    # A character has one to four bytes: most prompts need no encoding to see that they fit.
    if 4 * sum(len(message.content) for message in messages) <= limits.prompt_bytes:
        return
    size = sum(len(message.content.encode()) for message in messages)
    if size > limits.prompt_bytes:
        raise prompt_too_large(limits.prompt_bytes, size)


def _ceiling(policy: Policy, limits: Limits) -> int:
    return min(policy.max_output_tokens, limits.output_tokens)


def _violations(prompt: Prompt, policy: Policy, limits: Limits) -> Iterator[FieldViolation]:
    yield from _in_messages(prompt.messages, limits)
    yield from _in_sampling(prompt.sampling, _ceiling(policy, limits), limits)
    yield from _in_choice(prompt, policy, limits)
    yield from _in_tags(prompt.tags.items(), limits)
    yield from _in_cache_control(prompt.cache_control, limits)
    if prompt.priority not in _PRIORITIES:
        yield FieldViolation("prompt.priority", "must be LOW, NORMAL or HIGH")
    if len(prompt.idempotency_key) > limits.idempotency_key_chars:
        yield FieldViolation("prompt.idempotency_key", f"must have at most {limits.idempotency_key_chars} characters")
    if len(prompt.session_id) > limits.session_id_chars:
        yield FieldViolation("prompt.session_id", f"must have at most {limits.session_id_chars} characters")


def _in_messages(messages: tuple[Message, ...], limits: Limits) -> Iterator[FieldViolation]:
    if len(messages) > limits.messages:
        yield FieldViolation("prompt.messages", f"are {len(messages)}, must be at most {limits.messages}")
        return  # not hundreds of violations more
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            yield FieldViolation(f"prompt.messages[{index}].role", "must be SYSTEM, USER or ASSISTANT")
    if messages[-1].role in _ROLES and messages[-1].role != Role.USER:
        yield FieldViolation(
            f"prompt.messages[{len(messages) - 1}].role", "must be USER: the last message is the question"
        )


def _in_sampling(asked: AskedSampling, ceiling: int, limits: Limits) -> Iterator[FieldViolation]:
    if asked.max_output_tokens is not None and not 1 <= asked.max_output_tokens <= ceiling:
        yield FieldViolation("prompt.sampling.max_output_tokens", f"must be 1 to {ceiling} under your policy")
    # Written so that NaN fails too.
    if asked.temperature is not None and not 0.0 <= asked.temperature <= 2.0:
        yield FieldViolation("prompt.sampling.temperature", "must be 0 to 2")
    if asked.top_p is not None and not 0.0 < asked.top_p <= 1.0:
        yield FieldViolation("prompt.sampling.top_p", "must be above 0, and at most 1")
    if len(asked.stop) > limits.stops:
        yield FieldViolation("prompt.sampling.stop", f"are {len(asked.stop)}, must be at most {limits.stops}")
    elif not all(1 <= len(stop) <= limits.stop_chars for stop in asked.stop):
        yield FieldViolation("prompt.sampling.stop", f"each must have 1 to {limits.stop_chars} characters")


def _in_choice(prompt: Prompt, policy: Policy, limits: Limits) -> Iterator[FieldViolation]:
    if prompt.tier not in _TIERS:
        yield FieldViolation("prompt.tier", "must be SMALL, MEDIUM, LARGE, or not set")
    elif prompt.tier > policy.max_tier:
        yield FieldViolation("prompt.tier", f"must be at most {policy.max_tier.name}, the best tier of your policy")
    if len(prompt.model) > limits.name_chars:
        yield FieldViolation("prompt.model", f"must have at most {limits.name_chars} characters")
    least = policy.routing.min_quality_floor
    if prompt.quality_floor is not None and not least <= prompt.quality_floor < 1.0:  # NaN fails too
        yield FieldViolation("prompt.quality_floor", f"must be {least:g} or more under your policy, and below 1")


def _in_cache_control(control: CacheControl, limits: Limits) -> Iterator[FieldViolation]:
    if control.max_age is not None and control.max_age < timedelta(0):
        yield FieldViolation("prompt.cache_control.max_age", "must be 0 s or more")
    if control.min_score is not None and not 0.0 <= control.min_score <= 1.0:  # NaN fails too
        yield FieldViolation("prompt.cache_control.min_score", "must be 0 to 1")
    if len(control.tags) > limits.tags:
        yield FieldViolation("prompt.cache_control.tags", f"are {len(control.tags)}, must be at most {limits.tags}")
    elif not all(1 <= len(tag) <= limits.tag_chars for tag in control.tags):
        yield FieldViolation("prompt.cache_control.tags", f"each must have 1 to {limits.tag_chars} characters")


def _in_tags(tags: Iterable[tuple[str, str]], limits: Limits) -> Iterator[FieldViolation]:
    pairs = list(tags)
    if len(pairs) > limits.tags:
        yield FieldViolation("prompt.tags", f"are {len(pairs)}, must be at most {limits.tags}")
    elif not all(1 <= len(key) <= limits.tag_chars and 1 <= len(value) <= limits.tag_chars for key, value in pairs):
        yield FieldViolation("prompt.tags", f"keys and values must have 1 to {limits.tag_chars} characters")
