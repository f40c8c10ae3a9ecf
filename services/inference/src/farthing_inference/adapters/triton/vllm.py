"""The tensors of Triton's vLLM backend, which our local models speak too.

A streamed response holds the new text, the number of new output tokens, and each time the number of prompt tokens;
`finish_reason` is "None" until the last one.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from farthing_inference.adapters.triton import tensors
from farthing_inference.adapters.triton.dialect import Piece
from farthing_inference.domain.errors import EngineFailed
from farthing_inference.domain.generation import FinishReason, Sampling

_FLAGS: Final = (
    "stream",
    "exclude_input_in_output",
    "return_finish_reason",
    "return_num_input_tokens",
    "return_num_output_tokens",
)
_UNFINISHED: Final = b"None"
_ABORTED: Final = frozenset({b"abort", b"error"})


class VllmDialect:
    """text_input and sampling_parameters in; text_output, finish_reason and token counts out. `has_commands`: as the
    local models of deploy/config/triton, which speak the same otherwise."""

    def __init__(self, *, has_commands: bool = False) -> None:
        self.has_commands = has_commands

    def fill(self, request: Any, prompt: str, sampling: Sampling) -> None:
        tensors.add_text(request, "text_input", prompt)
        tensors.add_text(request, "sampling_parameters", json.dumps(_parameters(sampling)))
        for name in (*_FLAGS, "return_cumulative_logprob") if sampling.logprob else _FLAGS:
            tensors.add_flag(request, name, True)

    def read(self, response: Any) -> Piece:
        found = tensors.outputs(response)
        return Piece(
            text=tensors.first_text(found["text_output"]) if "text_output" in found else b"",
            input_tokens=_count(found, "num_input_tokens"),
            new_output_tokens=_count(found, "num_output_tokens") or 0,
            finish=_finish(tensors.first_text(found["finish_reason"])) if "finish_reason" in found else None,
            logprob=_logprob(found["cumulative_logprob"]) if "cumulative_logprob" in found else None,
        )


def _parameters(sampling: Sampling) -> dict[str, Any]:
    """Names of vLLM's SamplingParams. The backend refuses names that it does not know, and a seed of a request's own
    makes its sampling slower: so only what is needed is said."""
    parameters: dict[str, Any] = {"max_tokens": sampling.max_output_tokens, "temperature": sampling.temperature}
    if sampling.temperature > 0:
        parameters |= {"top_p": sampling.top_p, "seed": sampling.seed}
    if sampling.stop:
        parameters["stop"] = list(sampling.stop)
    if sampling.logprob:
        parameters["logprobs"] = 0  # that of the chosen token; without, vLLM sums none up
    return parameters


def _count(found: dict[str, bytes], name: str) -> int | None:
    return tensors.first_uint32(found[name]) if name in found else None


def _logprob(raw: bytes) -> float | None:
    """A model that does not know it sends NaN; nothing that is no log-probability is taken for one."""
    value = tensors.first_float32(raw)
    return value if math.isfinite(value) and value <= 0 else None


def _finish(raw: bytes) -> FinishReason | None:
    if raw == _UNFINISHED:
        return None
    if raw in _ABORTED:
        raise EngineFailed("aborted by the engine")
    return FinishReason.LENGTH if raw == b"length" else FinishReason.STOP
