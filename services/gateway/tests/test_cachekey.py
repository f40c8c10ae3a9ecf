"""Which requests share a key: those that must get the same answer, and no others."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.cachekey import CacheKey, cache_key
from farthing_gateway.domain.canonical import Canonical
from farthing_gateway.domain.claims import body_digest
from farthing_gateway.domain.model import Role, Tier
from farthing_gateway.domain.prompt import CacheControl, Message, Prompt, Question, Sampling
from farthing_kit.context import Principal
from services.gateway.tests.values import POLICY, ask, policy, sampled

# Texts that try to look like each other's neighbours: short, from few letters, with the bytes of lengths among them.
tricky = st.text(alphabet="ab\x00\x01\x08 é", max_size=4)
messages = st.builds(Message, st.sampled_from(list(Role)), tricky)
samplings = st.builds(
    Sampling,
    max_output_tokens=st.integers(1, 3),
    temperature=st.sampled_from([0.0, 0.5]),
    top_p=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2),
    stop=st.lists(tricky, max_size=3).map(tuple),
)
questions = st.builds(
    Question,
    messages=st.lists(messages, min_size=1, max_size=4).map(tuple),
    sampling=samplings,
    tier=st.sampled_from(list(Tier)),
    model=tricky,
    cache_control=st.just(CacheControl()),
    tags=st.just({}),
)


ACME = Principal("acme", "search", "u1", "k_acme")


def key(prompt: Prompt, version: int = POLICY.version) -> CacheKey:
    return cache_key(accept(prompt, POLICY, Limits()), policy(version=version), ACME)


def of(question: Question, version: int = 1) -> CacheKey:
    return cache_key(question, policy(version=version), ACME)


@given(questions, questions, st.integers(1, 2), st.integers(1, 2))
def test_two_requests_share_a_key_only_if_they_are_equal(one: Question, two: Question, v1: int, v2: int) -> None:
    assert (of(one, v1) == of(two, v2)) == ((one, v1) == (two, v2))


@given(questions, st.data())
def test_no_text_moves_from_one_field_to_the_next(question: Question, data: st.DataObject) -> None:
    """Splitting a message in two, at any place, is another conversation."""
    last = question.messages[-1]
    at = data.draw(st.integers(0, len(last.content)))
    parts = (Message(last.role, last.content[:at]), Message(last.role, last.content[at:]))
    assert of(replace(question, messages=(*question.messages[:-1], *parts))) != of(question)


values = st.lists(st.one_of(tricky, st.integers(-3, 3), st.lists(tricky, max_size=2)), max_size=4)


@given(values, values)
def test_the_canonical_form_never_gives_two_lists_of_one_shape_the_same_bytes(one: list[Any], two: list[Any]) -> None:
    shape = [type(value) for value in one]
    if shape == [type(value) for value in two]:
        assert (digest(one) == digest(two)) == (one == two)


def digest(values: list[Any]) -> bytes:
    form = Canonical(b"test")
    for value in values:
        if isinstance(value, str):
            form.text(value)
        elif isinstance(value, int):
            form.integer(value)
        else:
            form.texts(value)
    return form.digest()


def test_digests_are_sha256() -> None:
    made = key(ask())
    assert (len(made.compatibility), len(made.prompt)) == (32, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"tier": 1},
        {"model": "small"},
        {"sampling": sampled(max_output_tokens=100)},
        {"sampling": sampled(temperature=0.1)},
        {"sampling": sampled(top_p=0.9)},
        {"sampling": sampled(seed=1)},
        {"sampling": sampled(stop=("\n",))},
    ],
)
def test_what_shapes_an_answer_changes_the_compatibility_and_not_the_prompt(changes: dict[str, Any]) -> None:
    plain, changed = key(ask()), key(ask(**changes))
    assert changed.compatibility != plain.compatibility
    assert changed.prompt == plain.prompt


def test_the_same_last_message_after_another_history_is_another_request() -> None:
    plain = key(ask("And in Italy?"))
    for earlier in (Message(Role.USER, "Capital of France?"), Message(Role.SYSTEM, "Answer in Latin.")):
        changed = key(ask("And in Italy?", earlier))
        assert changed.compatibility != plain.compatibility
        assert changed.prompt == plain.prompt


def another(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    match value:
        case None:
            return 0.5
        case Tier():
            return Tier.LARGE
        case str():
            return value + "x"
        case int() | float():
            return value + 1
        case tuple():
            return (*value, value[-1] if value else "x")
        case dict():
            return {**value, "x": "y"}
        case _:
            [first, *_] = fields(value)
            return replace(value, **{first.name: another(getattr(value, first.name))})


QUESTION = accept(ask("And in Italy?"), POLICY, Limits())
SHAPELESS = {"cache_control", "tags", "session_id"}


@pytest.mark.parametrize("name", [each.name for each in fields(Question)])
def test_every_field_of_a_question_is_in_its_key_but_those_that_shape_no_answer(name: str) -> None:
    changed = replace(QUESTION, **{name: another(getattr(QUESTION, name))})
    assert changed != QUESTION
    assert (of(changed) == of(QUESTION)) is (name in SHAPELESS)


@pytest.mark.parametrize("name", [each.name for each in fields(Sampling)])
def test_every_field_of_the_sampling_is_in_the_key(name: str) -> None:
    sampling = replace(QUESTION.sampling, **{name: another(getattr(QUESTION.sampling, name))})
    assert of(replace(QUESTION, sampling=sampling)).compatibility != of(QUESTION).compatibility


@pytest.mark.parametrize("name", [each.name for each in fields(Message)])
def test_every_field_of_a_message_is_in_the_key(name: str) -> None:
    message = QUESTION.messages[-1]
    other = replace(message, **{name: another(getattr(message, name))})
    assert of(replace(QUESTION, messages=(other,))).prompt != of(QUESTION).prompt
    assert of(replace(QUESTION, messages=(other, message))) != of(replace(QUESTION, messages=(message, message)))


def test_another_policy_version_is_another_key() -> None:
    assert key(ask(), 3).compatibility != key(ask(), 4).compatibility


def test_a_default_said_aloud_is_the_same_request() -> None:
    said = sampled(max_output_tokens=512, temperature=-0.0, top_p=1.0)
    assert key(ask(sampling=said)) == key(ask())


def test_what_shapes_no_answer_does_not_matter() -> None:
    prompt = ask(tags={"feature": "x"}, priority=3, idempotency_key="k", cache_control=CacheControl(no_store=True))
    assert key(prompt) == key(ask())


@pytest.mark.parametrize(
    "changes",
    [
        {"tier": 1},
        {"model": "small"},
        {"sampling": sampled(max_output_tokens=512)},
        {"sampling": sampled(temperature=0.0)},
        {"tags": {"feature": "x"}},
        {"priority": 2},
        {"cache_control": CacheControl(no_cache=True)},
    ],
)
def test_an_idempotency_key_is_bound_to_everything_that_was_said(changes: dict[str, Any]) -> None:
    assert body_digest(ask(**changes)) != body_digest(ask())
    assert body_digest(ask(idempotency_key="another")) == body_digest(ask())
