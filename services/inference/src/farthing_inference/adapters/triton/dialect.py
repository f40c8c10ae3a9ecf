"""What differs between Triton's backends for language models: the names and meanings of their tensors.

Another backend is another file beside vllm.py with a class of these two methods, and a line in `DIALECTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from farthing_inference.domain.generation import FinishReason, Sampling


@dataclass(frozen=True, slots=True)
class Piece:
    """What one response adds: bytes of text, which may end inside a character, and output tokens. `input_tokens` is
    None where the response does not say. `logprob` is the log-probability of the whole answer so far, where it is
    known."""

    text: bytes = b""
    input_tokens: int | None = None
    new_output_tokens: int = 0
    finish: FinishReason | None = None
    logprob: float | None = None


class Dialect(Protocol):
    """One backend's tensors. `has_commands`: it takes requests with an input `command` too (commands.py)."""

    has_commands: bool

    def fill(self, request: Any, prompt: str, sampling: Sampling) -> None:
        """Add the input tensors to a ModelInferRequest."""
        ...

    def read(self, response: Any) -> Piece:
        """What a ModelInferResponse with outputs says. Raises EngineFailed when it makes no sense."""
        ...
