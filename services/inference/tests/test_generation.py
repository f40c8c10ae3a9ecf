"""What a generation must look like to be taken."""

from __future__ import annotations

from typing import Any

import pytest

from farthing_inference.domain.errors import EmptyPrompt, PromptTooLarge
from farthing_inference.domain.generation import Message, Role, Sampling, check
from farthing_kit.errors import InvalidArgument
from services.inference.tests.builders import generation

LIMIT = 1000


def test_a_sensible_generation_is_taken() -> None:
    check(generation(sampling=Sampling(8192, 2.0, 1.0, 2**63 - 1, ("a" * 64,) * 4)), LIMIT)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_output_tokens": 0}, "sampling.max_output_tokens"),
        ({"max_output_tokens": -1}, "sampling.max_output_tokens"),
        ({"max_output_tokens": 8193}, "sampling.max_output_tokens"),
        ({"temperature": -0.1}, "sampling.temperature"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"temperature": float("inf")}, "sampling.temperature"),
        ({"top_p": 0.0}, "sampling.top_p"),
        ({"top_p": 1.1}, "sampling.top_p"),
        ({"seed": -1}, "sampling.seed"),
        ({"stop": ("a",) * 5}, "sampling.stop"),
        ({"stop": ("",)}, "sampling.stop"),
        ({"stop": ("a" * 65,)}, "sampling.stop"),
    ],
)
def test_a_field_out_of_range_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(generation(sampling=Sampling(**{"max_output_tokens": 1, **change})), LIMIT)
    assert [violation.field for violation in caught.value.fields] == [field]


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(generation(model="", sampling=Sampling(0, -1.0)), LIMIT)
    assert caught.value.metadata == {"fields": "model,sampling.max_output_tokens,sampling.temperature"}


def test_too_many_messages_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        check(generation(messages=(Message(Role.USER, "x"),) * 257), LIMIT)


@pytest.mark.parametrize("texts", [(), ("",), (" \n", "\t")])
def test_nothing_to_answer_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(EmptyPrompt):
        check(generation(messages=tuple(Message(Role.USER, text) for text in texts)), LIMIT)


def test_size_is_counted_in_bytes() -> None:
    check(generation("x" * LIMIT), LIMIT)
    with pytest.raises(PromptTooLarge) as caught:
        check(generation("ü" * LIMIT), LIMIT)
    assert caught.value.metadata == {"limit_bytes": "1000", "actual_bytes": "2000"}
