"""Which prompts are taken, and what is said about the others."""

import math
from dataclasses import replace
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


# What the books once refused though the door took it, and what a name may be made of all the same: ../libs/kit/tests/
# test_labels.py has the whole rule.
UNFIT = ["a\nb", "prod\n", "\x00", "\ufeffprod", "a\u2028b", "\ue000", "\u202edorp", " ", "\u200b"]
FIT = ["می\u200cخواهم", "👩\u200d💻", "prix\u00a0net", "検索\u3000窓", "שלום\u200f", "ki\u00adlo", "[/INST]"]


@pytest.mark.parametrize("text", UNFIT)
def test_every_name_that_a_caller_chooses_is_a_label(text: str) -> None:
    assert violations(ask(tags={"feature": text})) == {"tags"}
    assert violations(ask(tags={text: "search"})) == {"tags"}
    assert violations(ask(cache_control=CacheControl(tags=("docs", text)))) == {"cache_control.tags"}
    assert violations(ask(session_id=text)) == {"session_id"}
    assert violations(ask(idempotency_key=text)) == {"idempotency_key"}
    assert violations(ask(model=text)) == {"model"}


@pytest.mark.parametrize("text", FIT)
def test_names_of_every_language_are_taken(text: str) -> None:
    control = CacheControl(tags=(text,))
    prompt = ask(tags={text: text}, cache_control=control, session_id=text, idempotency_key=text, model=text)
    assert accept(prompt, POLICY, LIMITS).tags == {text: text}


def test_a_refused_label_is_told_which_character_is_where() -> None:
    with pytest.raises(InvalidArgument) as refused:
        accept(ask(tags={"feature": "a\nb"}), POLICY, LIMITS)
    assert refused.value.message == "prompt.tags: a value has U+000A, a control character, at place 2, must have none"


@pytest.mark.parametrize("text", ["\u200b\u200b\ufeff", "\u2800", "\u3164\u00ad", "\x00\x01"])
def test_a_prompt_of_invisible_characters_is_empty(text: str) -> None:
    with pytest.raises(EmptyPrompt):
        accept(ask(text), POLICY, LIMITS)


@pytest.mark.parametrize("asked", [3e-38, 1e-38, 1e-39, 1e-40, 1e-44, 1.4e-45, 5e-324, 1e-46, 9e-6, 0.0, -0.0])
def test_a_temperature_that_engines_cannot_tell_from_0_is_0(asked: float) -> None:
    sampling = accept(ask(sampling=sampled(temperature=asked, top_p=0.5)), POLICY, LIMITS).sampling
    assert math.copysign(1, sampling.temperature) == 1
    assert sampling.deterministic


def test_lesser_values_that_engines_can_tell_apart_are_kept() -> None:
    assert accept(ask(sampling=sampled(temperature=1e-5)), POLICY, LIMITS).sampling.temperature == 1e-5


@pytest.mark.parametrize("asked", [5e-324, 1e-45, 1e-38, 1e-7])
def test_a_share_too_small_for_an_engine_is_the_least_that_is_one_token(asked: float) -> None:
    assert accept(ask(sampling=sampled(top_p=asked)), POLICY, LIMITS).sampling.top_p == 1e-6


@pytest.mark.parametrize(("asked", "taken"), [(-1, 2**63 - 1), (-(2**63), 0), (0, 0), (7, 7), (2**63 - 1, 2**63 - 1)])
def test_every_seed_is_one_that_engines_take(asked: int, taken: int) -> None:
    assert accept(ask(sampling=sampled(seed=asked)), POLICY, LIMITS).sampling.seed == taken


@pytest.mark.parametrize("floor", [math.nan, math.inf, -math.inf, 0.0, -0.0, -1e-9, 1.0, 1.1])
def test_a_quality_floor_is_a_probability(floor: float) -> None:
    least = policy().routing
    assert violations(ask(quality_floor=floor), routing=replace(least, min_quality_floor=0.0)) == {"quality_floor"}


@pytest.mark.parametrize("score", [math.nan, math.inf, -1e-9, 1.0000001])
def test_a_least_score_is_0_to_1(score: float) -> None:
    assert violations(ask(cache_control=CacheControl(min_score=score))) == {"cache_control.min_score"}
