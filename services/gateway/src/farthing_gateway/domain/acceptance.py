"""Whether a prompt can be taken: every limit that a caller can break, all violations named at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from farthing_gateway.domain.errors import empty_prompt, invalid_fields, prompt_too_large
from farthing_gateway.domain.model import Role, Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import AskedSampling, CacheControl, Message, Prompt, Question, Sampling
from farthing_kit import labels
from farthing_kit.context import Priority
from farthing_kit.errors import FieldViolation
from farthing_kit.invisible import is_blank

_ROLES: Final = frozenset(Role)
_TIERS: Final = frozenset(Tier)
_PRIORITIES: Final = frozenset({0, *Priority})
DEFAULT_TOP_P: Final = 1.0
# Engines count in 32 bits, where a lesser temperature divides by nothing; vLLM too takes less than this for 0. A lesser
# share of the probability than this is one token's, as this is.
LEAST_TEMPERATURE: Final = 1e-5
LEAST_TOP_P: Final = 1e-6
# Engines take seeds of 0 and more: one below stands for that much below their number.
_SEEDS: Final = 2**63


@dataclass(frozen=True, slots=True)
class Limits:
    """What a prompt may have at most; the numbers are the contract's."""

    messages: int = 256
    prompt_bytes: int = 1024 * 1024
    output_tokens: int = 8192
    stops: int = 4
    stop_chars: int = 64
    tags: int = labels.MAX_TAGS
    tag_chars: int = labels.MAX_CHARS
    name_chars: int = labels.MAX_NAME_CHARS
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
            temperature=_temperature(asked.temperature),
            top_p=DEFAULT_TOP_P if asked.top_p is None else max(asked.top_p, LEAST_TOP_P),
            seed=asked.seed % _SEEDS,
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
    if not messages or is_blank(messages[-1].content):
        raise empty_prompt()


def _require_size(messages: tuple[Message, ...], limits: Limits) -> None:
    # A character has one to four bytes: most prompts need no encoding to see that they fit.
    if 4 * sum(len(message.content) for message in messages) <= limits.prompt_bytes:
        return
    size = sum(len(message.content.encode()) for message in messages)
    if size > limits.prompt_bytes:
        raise prompt_too_large(limits.prompt_bytes, size)


def _temperature(asked: float | None) -> float:
    return asked if asked is not None and asked >= LEAST_TEMPERATURE else 0.0


def _ceiling(policy: Policy, limits: Limits) -> int:
    return min(policy.max_output_tokens, limits.output_tokens)


def _violations(prompt: Prompt, policy: Policy, limits: Limits) -> Iterator[FieldViolation]:
    yield from _in_messages(prompt.messages, limits)
    yield from _in_sampling(prompt.sampling, _ceiling(policy, limits), limits)
    yield from _in_choice(prompt, policy, limits)
    yield from _in_tags(prompt.tags, limits)
    yield from _in_cache_control(prompt.cache_control, limits)
    if prompt.priority not in _PRIORITIES:
        yield FieldViolation("prompt.priority", "must be LOW, NORMAL or HIGH")
    yield from _in_name("prompt.idempotency_key", prompt.idempotency_key, limits.idempotency_key_chars)
    yield from _in_name("prompt.session_id", prompt.session_id, limits.session_id_chars)


def _in_name(field: str, name: str, most: int) -> Iterator[FieldViolation]:
    fault = labels.fault(name, most=most, least=0)
    if fault is not None:
        yield FieldViolation(field, fault)


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
    yield from _in_name("prompt.model", prompt.model, limits.name_chars)
    least, floor = policy.routing.min_quality_floor, prompt.quality_floor
    if floor is not None and not (0.0 < floor < 1.0 and floor >= least):  # NaN fails too
        wanted = f"{least:g} or more under your policy" if least > 0 else "above 0"
        yield FieldViolation("prompt.quality_floor", f"must be {wanted}, and below 1")


def _in_cache_control(control: CacheControl, limits: Limits) -> Iterator[FieldViolation]:
    if control.max_age is not None and control.max_age < timedelta(0):
        yield FieldViolation("prompt.cache_control.max_age", "must be 0 s or more")
    if control.min_score is not None and not 0.0 <= control.min_score <= 1.0:  # NaN fails too
        yield FieldViolation("prompt.cache_control.min_score", "must be 0 to 1")
    if len(control.tags) > limits.tags:
        yield FieldViolation("prompt.cache_control.tags", f"are {len(control.tags)}, must be at most {limits.tags}")
    else:
        yield from _in_labels("prompt.cache_control.tags", (("a tag", tag) for tag in control.tags), limits)


def _in_tags(tags: Mapping[str, str], limits: Limits) -> Iterator[FieldViolation]:
    if len(tags) > limits.tags:
        yield FieldViolation("prompt.tags", f"are {len(tags)}, must be at most {limits.tags}")
    else:
        texts = [("a key", key) for key in tags] + [("a value", value) for value in tags.values()]
        yield from _in_labels("prompt.tags", texts, limits)


def _in_labels(field: str, texts: Iterable[tuple[str, str]], limits: Limits) -> Iterator[FieldViolation]:
    for what, text in texts:
        fault = labels.fault(text, most=limits.tag_chars)
        if fault is not None:
            yield FieldViolation(field, f"{what} {fault}")
            return
