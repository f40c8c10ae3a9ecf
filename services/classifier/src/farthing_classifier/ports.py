"""What the classifier needs: an encoder for text, heads that judge, and somebody to tell about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain.analysis import Analysis, Limits, Scores
from farthing_classifier.domain.drift import Drift, Reference
from farthing_classifier.domain.judging.examination import Examination, Finding
from farthing_classifier.domain.views import Views

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """Which encoder is loaded. `window_tokens` counts the encoder's own start and end marks."""

    name: str
    sha256: str
    dimension: int
    window_tokens: int
    execution_provider: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A text in tokens, cut to the encoder's window. `prompt_tokens` counts the whole text, estimated where it is very
    long."""

    ids: tuple[int, ...]
    prompt_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The meaning of a text: a unit vector. `prompt_tokens` counts the whole text, estimated where it is very long."""

    embedding: Vector
    prompt_tokens: int
    truncated: bool


class Encoder(Protocol):
    """Turns text into meaning. Called from worker threads, from several at once."""

    @property
    def info(self) -> EncoderInfo:
        """Which encoder this is."""
        ...

    def encode(self, text: str) -> Encoded:
        """One text, alone."""
        ...

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Any texts are read, the longest and the strangest too."""
        ...

    def embed(self, reading: Reading, *, alone: bool) -> Encoded:
        """The vector does not depend on what else is embedded, nor on `alone`: whether all threads may work on it."""
        ...


@dataclass(frozen=True, slots=True)
class HeadsInfo:
    """Which heads are loaded, the encoder that they were trained on, and what was learnt beside their weights."""

    version: str
    sha256: str
    encoder_sha256: str
    limits: Limits
    reference: Reference


class Heads(Protocol):
    """Judges in two stages: words and surface alone (`domain.views`), and joined with an embedding."""

    @property
    def info(self) -> HeadsInfo:
        """Which heads these are."""
        ...

    def first(self, views: Views) -> Scores:
        """Probabilities are in [0, 1], and those of the tasks sum to 1."""
        ...

    def second(self, embedding: Vector, lexical: Sequence[float], first: Scores) -> Scores:
        """The judgement of both stages together."""
        ...


class Observer(Protocol):
    """Told about every judgement, on the event loop."""

    def judging(self) -> AbstractContextManager[Callable[[Analysis], None]]:
        """Around one judgement, its wait for a worker included; the judgement is told to what it gives."""
        ...

    def drifting(self, drift: Drift) -> None:
        """The state of the window, now and then."""
        ...

    def passed(self, prompts: int) -> None:
        """A worker took so many prompts at once."""
        ...


class Judge(Protocol):
    """Weighs what was found in an answer. Called from worker threads, from several at once."""

    @property
    def version(self) -> str:
        """Which judge this is: thresholds are bound to it."""
        ...

    def weigh(self, examination: Examination, prior_success: float | None) -> float:
        """The probability that the answer is acceptable; without a prior, from the judge's own."""
        ...


class JudgeObserver(Protocol):
    """Told about every verdict, on the event loop."""

    def examining(self) -> AbstractContextManager[None]:
        """Around one verdict, its wait for a worker included."""
        ...

    def examined(self, findings: Sequence[Finding]) -> None:
        """What was found, while `examining` is open."""
        ...
