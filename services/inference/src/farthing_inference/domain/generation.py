"""One generation: what is asked, within which limits, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from farthing_inference.domain.errors import EmptyPrompt, PromptTooLarge, invalid_fields
from farthing_kit.errors import FieldViolation
from farthing_kit.usage import TokenUsage

MAX_MESSAGES = 256
MAX_OUTPUT_TOKENS = 8192
MAX_TEMPERATURE = 2.0
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 64
MAX_SEED = 2**63 - 1
# No vocabulary in use has a text whose tokens are this long on average: more bytes than this a token cannot fit.
MAX_BYTES_PER_TOKEN = 32


class Role(Enum):
    """Who wrote a message; the values are the words that chat templates know."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why an engine stopped by itself."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 takes the most likely token each time. With `logprob`, the engine says how
    probable they were, if it can."""

    max_output_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprob: bool = False

    def also_stopping_at(self, more: tuple[str, ...]) -> Sampling:
        """The same with more strings that end the answer."""
        return replace(self, stop=(*self.stop, *more)) if more else self


@dataclass(frozen=True, slots=True)
class Generation:
    """A conversation to go on with, by the model of that name."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Progress:
    """What an engine has done since the last one. Counts are totals, and so is `logprob`, the sum of the natural
    log-probabilities of all output tokens (None: not known); `finish` is set on the last one only."""

    text: str
    input_tokens: int
    output_tokens: int
    finish: FinishReason | None = None
    logprob: float | None = None

    @property
    def usage(self) -> TokenUsage:
        """The tokens so far. Triton's engines do not count what their KV cache saved: all input is fresh."""
        return TokenUsage(fresh_input=self.input_tokens, output=self.output_tokens)

    @property
    def mean_token_logprob(self) -> float | None:
        """Of the output tokens so far."""
        return self.logprob / self.output_tokens if self.logprob is not None and self.output_tokens else None


@dataclass(frozen=True, slots=True)
class Started:
    """A server took the work."""

    pool: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of the answer, with the tokens so far: a generation that is cut off is charged for these."""

    text: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    reason: FinishReason
    usage: TokenUsage
    mean_token_logprob: float | None = None


Event = Started | Chunk | Finished


def check(generation: Generation, max_prompt_bytes: int) -> None:
    """Refuse what cannot be answered: wrong fields by name, nothing to answer, more than the limit."""
    violations = [*_model(generation.model), *_messages(generation.messages), *_sampling(generation.sampling)]
    if violations:
        raise invalid_fields(violations)
    if not any(message.content.strip() for message in generation.messages):
        raise EmptyPrompt
    check_size(generation.messages, max_prompt_bytes)


def check_size(messages: tuple[Message, ...], limit_bytes: int) -> None:
    """Refuse a conversation of more bytes than the limit."""
    actual = sum(len(message.content.encode()) for message in messages)
    if actual > limit_bytes:
        raise PromptTooLarge.in_bytes(actual, limit_bytes)


def _model(name: str) -> Iterable[FieldViolation]:
    if not name:
        yield FieldViolation("model", "is empty, must be the name of a model")


def _messages(messages: tuple[Message, ...]) -> Iterable[FieldViolation]:
    if len(messages) > MAX_MESSAGES:
        yield FieldViolation("messages", f"are {len(messages)}, must be at most {MAX_MESSAGES}")


def _sampling(sampling: Sampling) -> Iterable[FieldViolation]:
    if not 1 <= sampling.max_output_tokens <= MAX_OUTPUT_TOKENS:
        yield _violation("max_output_tokens", f"is {sampling.max_output_tokens}, must be 1 to {MAX_OUTPUT_TOKENS}")
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:  # written so that NaN is refused
        yield _violation("temperature", f"is {sampling.temperature}, must be 0 to 2")
    if not 0 < sampling.top_p <= 1:
        yield _violation("top_p", f"is {sampling.top_p}, must be above 0 and at most 1")
    if not 0 <= sampling.seed <= MAX_SEED:
        yield _violation("seed", f"is {sampling.seed}, must be 0 or more")
    if len(sampling.stop) > MAX_STOPS:
        yield _violation("stop", f"has {len(sampling.stop)} strings, must have at most {MAX_STOPS}")
    if any(not 1 <= len(text) <= MAX_STOP_CHARACTERS for text in sampling.stop):
        yield _violation("stop", f"has a string of another length than 1 to {MAX_STOP_CHARACTERS} characters")


def _violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(f"sampling.{field}", description)
