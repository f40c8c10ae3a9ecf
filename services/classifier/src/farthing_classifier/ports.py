"""What the classifier needs: an encoder for text, heads that read its embeddings, and somebody to tell about it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain.analysis import Analysis, Scores

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """Which encoder is loaded. `window_tokens` counts the encoder's own start and end marks."""

    name: str
    sha256: str
    dimension: int
    window_tokens: int
    execution_provider: str


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
        """Any text is answered, the longest and the strangest too."""
        ...


@dataclass(frozen=True, slots=True)
class HeadsInfo:
    """Which heads are loaded, and the encoder that they were trained on."""

    version: str
    sha256: str
    encoder_sha256: str


class Heads(Protocol):
    """Judges an embedding together with the surface features of its text (`domain.lexical.NAMES`)."""

    @property
    def info(self) -> HeadsInfo:
        """Which heads these are."""
        ...

    def score(self, embedding: Vector, lexical: tuple[float, ...]) -> Scores:
        """Probabilities are in [0, 1], and those of the tasks sum to 1."""
        ...


class Observer(Protocol):
    """Told about every judgement, on the event loop."""

    def judging(self) -> AbstractContextManager[None]:
        """Around one judgement, its wait for a worker included."""
        ...

    def judged(self, analysis: Analysis) -> None:
        """The judgement, while `judging` is open."""
        ...
