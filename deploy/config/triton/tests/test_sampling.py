"""What `sampling_parameters` may say."""

import json
from typing import Any

import pytest

from farthing_triton.sampling import DEFAULT_MAX_TOKENS, SEEDS, BadRequest, Sampling, parse


def parsed(**parameters: Any) -> Sampling:
    return parse(json.dumps(parameters))


def test_nothing_said_means_the_defaults_of_vllm() -> None:
    assert parse("") == parse("{}") == parsed(seed=None, top_p=None) == Sampling(max_tokens=DEFAULT_MAX_TOKENS)


def test_everything_that_is_known_is_read() -> None:
    found = parsed(max_tokens=5, stop="END", seed=7, top_k=3, ignore_eos=True, temperature=0, repetition_penalty=1.1)
    numbers = {"temperature": 0.0, "repetition_penalty": 1.1}
    assert found == Sampling(5, ("END",), 7, 3, True, numbers)


def test_top_k_of_minus_one_is_no_limit() -> None:
    assert parsed(top_k=-1).top_k == 0


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**32 - 1, 2**63 - 1])
def test_every_seed_is_a_seed_of_llama_cpp_and_none_means_any(seed: int) -> None:
    found = parsed(seed=seed).seed
    assert found is not None
    assert 0 <= found < SEEDS


@pytest.mark.parametrize("temperature", [0, 9e-5, 1e-36, 3e-38, 1e-40, 1.4e-45, 1e-46, 5e-324])
def test_a_temperature_that_32_bits_cannot_divide_by_is_greedy(temperature: float) -> None:
    assert parsed(temperature=temperature).numbers == {"temperature": 0.0}


def test_a_low_temperature_stays_one() -> None:
    assert parsed(temperature=1e-4).numbers == {"temperature": 1e-4}


@pytest.mark.parametrize("text", ["[]", "3", "not json", '"x"', "[" * 100_000, "\x00"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="sampling_parameters"):
        parse(text)


def test_half_a_surrogate_pair_is_no_stop_string() -> None:
    with pytest.raises(BadRequest, match="stop must be text"):
        parsed(stop=["a\ud800"])


def test_a_refusal_does_not_quote_values() -> None:
    with pytest.raises(BadRequest) as refusal:
        parsed(stop=["canary" * 100])
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "true", '"1"', "[]", "1e999"])
def test_what_is_no_number_in_range_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=name):
        parse(f'{{"{name}": {value}}}')
