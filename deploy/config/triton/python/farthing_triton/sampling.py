"""What `sampling_parameters` may say: the names, types and defaults of vLLM's SamplingParams."""

import json
from dataclasses import dataclass, field
from typing import Any

DEFAULT_MAX_TOKENS = 16  # as in vLLM
MAX_TOKENS = 8192
# Below it llama.cpp's and vLLM's numbers of 32 bits lose what distinguishes the tokens: logits divided by 1e-38 are
# infinite, and every choice among infinities is wrong. vLLM itself lifts what is below 0.01; here it is the most likely
# token each time, which is what such a temperature means.
LEAST_TEMPERATURE = 1e-4
MAX_STOPS = 32  # a pools file may add 16 to those of a caller
MAX_STOP_LENGTH = 256
# Seeds are 32 bits wide in llama.cpp, whose highest one asks for a random seed.
SEEDS = 2**32 - 1
# name → smallest and largest value. llama.cpp takes anything: a NaN too, which its samplers then divide by.
NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 10.0),
}
INTEGERS = {"max_tokens": (1, MAX_TOKENS), "top_k": (-1, 2**31 - 1), "seed": (-(2**63), 2**63 - 1), "logprobs": (0, 20)}
KNOWN = frozenset({*NUMBERS, *INTEGERS, "stop", "ignore_eos"})


class BadRequest(Exception):
    """A request that cannot be run; the text goes to the caller and quotes nothing of the prompt."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens, and when to stop. `top_k` 0 and `seed` None: not limited, any."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_k: int = 0
    ignore_eos: bool = False
    numbers: dict[str, float] = field(default_factory=dict)


def parse(text: str) -> Sampling:
    """The parameters in a JSON object; null means the default, as in vLLM. Raises BadRequest."""
    found = {name: value for name, value in _object(text).items() if value is not None}
    if unknown := sorted(set(found) - KNOWN):
        raise BadRequest(f"sampling_parameters has {unknown[0][:40]!r}, which is not one of {', '.join(sorted(KNOWN))}")
    integers = {name: _integer(name, found[name]) for name in INTEGERS if name in found}
    seed = integers.get("seed")
    return Sampling(
        max_tokens=integers.get("max_tokens", DEFAULT_MAX_TOKENS),
        stop=_stops(found.get("stop", [])),
        seed=None if seed is None else seed % SEEDS,
        top_k=max(0, integers.get("top_k", 0)),
        ignore_eos=_flag("ignore_eos", found.get("ignore_eos", False)),
        numbers=_numbers(found),
    )


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise BadRequest("sampling_parameters is not JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("sampling_parameters must be a JSON object")
    return found


def _integer(name: str, value: Any) -> int:
    low, high = INTEGERS[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"{name} must be {low} to {high}")
    return value


def _number(name: str, value: Any) -> float:
    low, high = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(f"{name} must be {low:g} to {high:g}")
    return float(value)


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    numbers = {name: _number(name, found[name]) for name in NUMBERS if name in found}
    if numbers.get("temperature", 1.0) < LEAST_TEMPERATURE:
        numbers["temperature"] = 0.0
    return numbers


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise BadRequest("stop must be a string or a list of strings")
    if any("\ud800" <= character <= "\udfff" for stop in stops for character in stop):
        raise BadRequest("stop must be text: half of a surrogate pair is none")
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_LENGTH for stop in stops):
        raise BadRequest(f"stop must be at most {MAX_STOPS} strings of at most {MAX_STOP_LENGTH} characters")
    return tuple(stops)
