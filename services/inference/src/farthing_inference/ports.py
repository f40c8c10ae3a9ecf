"""What the use cases need from the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from farthing_inference.domain.generation import Message, Progress, Sampling
from farthing_inference.domain.pools import ModelSpec, Placement, ServerAddress
from farthing_kit.usage import TokenUsage


class Engine(Protocol):
    """Runs a prompt on one server."""

    def generate(
        self, placement: Placement, prompt: str, sampling: Sampling, timeout_s: float
    ) -> AsyncGenerator[Progress, None]:
        """What the model says, as it says it; the last one has its finish reason set, and nothing follows it.

        Texts joined are the answer; no character is split between two. Counts are exact and never fall. Closing the
        generator, or cancelling who reads it, stops the model. `timeout_s` bounds the whole.

        Raises ServerFailure when another server may do better, PromptTooLarge, or DeadlineExceeded.
        """
        ...


class Probe(Protocol):
    """Asks servers how they are."""

    async def ready_models(self, server: ServerAddress, triton_models: Sequence[str]) -> frozenset[str]:
        """Those of the models that the server can run now. Raises ServerFailure when it does not answer in time."""
        ...

    async def control_tokens(self, server: ServerAddress, model: ModelSpec) -> Sequence[str]:
        """The texts that the model's tokenizer reads as markers, of a model that is ready there and can tell them; else
        nothing. Raises ServerFailure."""
        ...


class Templates(Protocol):
    """Turns a conversation into a model's prompt."""

    def render(self, model: ModelSpec, messages: Sequence[Message]) -> str:
        """The prompt, without the token that engines put first. Raises InvalidArgument when the model takes no such
        conversation, PromptTooLarge when the prompt outgrows its limit."""
        ...


class Meter(Protocol):
    """Measures generations."""

    def first_token(self, placement: Placement, seconds: float) -> None:
        """The time from the call to the model's first sign of life."""
        ...

    def ended(
        self, placement: Placement, outcome: str, usage: TokenUsage, seconds: float, after_first_s: float
    ) -> None:
        """A generation is over: how ("stop", "length", "cancelled", "deadline", "refused" or "failed"), its tokens, how
        long it took, and how much of that came after the first sign of life."""
        ...
