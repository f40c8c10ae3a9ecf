"""Which prompts are taken, and what is said about the others."""

import math
from datetime import timedelta
from typing import Any

import pytest

from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.errors import EmptyPrompt, PromptTooLarge
from farthing_gateway.domain.model import Role, Tier
from farthing_gateway.domain.prompt import CacheControl, Message, Prompt
from farthing_kit.errors import InvalidArgument
from services.gateway.tests.values import POLICY, ask, policy, sampled

LIMITS = Limits()


def violations(prompt: Prompt, **policy_changes: Any) -> set[str]:
    with pytest.raises(InvalidArgument) as refused:
        accept(prompt, policy(**policy_changes), LIMITS)
    fields = {violation.field.removeprefix("prompt.") for violation in refused.value.fields}
    assert refused.value.metadata["fields"].count("prompt.") == len(refused.value.fields)
    return fields


def test_a_bare_question_gets_the_defaults_of_the_policy() -> None:
    question = accept(ask(), POLICY, LIMITS)
    assert question.sampling.max_output_tokens == 512
    assert (question.sampling.temperature, question.sampling.top_p, question.sampling.seed) == (0.0, 1.0, 0)
    assert question.tier is Tier.UNSPECIFIED


def test_everything_at_its_limit_is_taken() -> None:
    prompt = ask(
        "x" * (LIMITS.prompt_bytes - 255),
        *(Message(Role.ASSISTANT, "y"),) * 255,
        sampling=sampled(max_output_tokens=512, temperature=2.0, top_p=1.0, seed=-(2**63), stop=("s" * 64,) * 4),
        tier=3,
        priority=3,
        tags={f"{number:064}": "v" * 64 for number in range(8)},
        idempotency_key="k" * 128,
        cache_control=CacheControl(max_age=timedelta(0)),
    )
    assert accept(prompt, POLICY, LIMITS).sampling.temperature == 2.0


@pytest.mark.parametrize("text", ["", " ", "\n\t\r ", "\u2003\u00a0"])
def test_nothing_to_answer_is_said_so_whatever_came_before(text: str) -> None:
    for prompt in (ask(text), ask(text, Message(Role.USER, "before"), Message(Role.ASSISTANT, "yes"))):
        with pytest.raises(EmptyPrompt):
            accept(prompt, POLICY, LIMITS)


def test_no_message_at_all_is_empty() -> None:
    with pytest.raises(EmptyPrompt):
        accept(Prompt(messages=()), POLICY, LIMITS)


def test_the_size_counts_bytes_of_all_messages_together() -> None:
    half = Message(Role.USER, "é" * (LIMITS.prompt_bytes // 4))
    assert len(accept(ask("é" * (LIMITS.prompt_bytes // 4), half), POLICY, LIMITS).messages) == 2
    with pytest.raises(PromptTooLarge) as refused:
        accept(ask("é" * (LIMITS.prompt_bytes // 4) + "!", half), POLICY, LIMITS)
    assert refused.value.metadata == {"limit_bytes": "1048576", "actual_bytes": "1048577"}


def test_every_violation_is_named_at_once() -> None:
    prompt = ask(
        "hello",
        Message(0, "who wrote this?"),
        Message(17, "and this?"),
        sampling=sampled(max_output_tokens=-5, temperature=2.1, top_p=0.0, stop=("", "ok")),
        tier=9,
        model="m" * 129,
        priority=7,
        tags={"": "empty key"},
        idempotency_key="k" * 129,
        cache_control=CacheControl(max_age=timedelta(seconds=-1)),
    )
    assert violations(prompt) == {
        "messages[0].role",
        "messages[1].role",
        "sampling.max_output_tokens",
        "sampling.temperature",
        "sampling.top_p",
        "sampling.stop",
        "tier",
        "model",
        "priority",
        "tags",
        "idempotency_key",
        "cache_control.max_age",
    }


@pytest.mark.parametrize("tokens", [0, -1, 513, 2**31 - 1])
def test_the_output_limit_is_the_policys(tokens: int) -> None:
    assert violations(ask(sampling=sampled(max_output_tokens=tokens))) == {"sampling.max_output_tokens"}


def test_no_policy_allows_more_output_than_the_contract() -> None:
    generous = {"max_output_tokens": 100_000}
    assert violations(ask(sampling=sampled(max_output_tokens=8193)), **generous) == {"sampling.max_output_tokens"}
    assert accept(ask(), policy(**generous), LIMITS).sampling.max_output_tokens == 8192


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    wrong = violations(ask(sampling=sampled(temperature=value, top_p=value)))
    assert wrong == {"sampling.temperature", "sampling.top_p"}


def test_a_tier_above_the_policys_best_is_refused() -> None:
    assert violations(ask(tier=3), max_tier=Tier.MEDIUM) == {"tier"}


def test_too_many_messages_are_one_violation_not_hundreds() -> None:
    assert violations(ask("x", *(Message(0, "y"),) * 256)) == {"messages"}


def test_the_last_message_must_be_the_callers() -> None:
    prompt = Prompt(messages=(Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello")))
    assert violations(prompt) == {"messages[1].role"}


@pytest.mark.parametrize("tags", [{str(n): "v" for n in range(9)}, {"k" * 65: "v"}, {"k": ""}, {"k": "v" * 65}])
def test_tags_are_bounded(tags: dict[str, str]) -> None:
    assert violations(ask(tags=tags)) == {"tags"}


@pytest.mark.parametrize("stop", [("a",) * 5, ("",), ("s" * 65,)])
def test_stop_sequences_are_bounded(stop: tuple[str, ...]) -> None:
    assert violations(ask(sampling=sampled(stop=stop))) == {"sampling.stop"}
