"""The classifier's view of a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from farthing_gateway.domain.model import Task, Tier


class AnalysisFlag(IntEnum):
    """Something to know about a judgement, as in farthing.classifier.v1.AnalysisFlag."""

    TRUNCATED = 1
    NOT_TEXT = 2
    UNFAMILIAR_LANGUAGE = 3
    OUT_OF_DOMAIN = 4
    NO_SIGNAL = 5
    ADDRESSES_ROUTER = 6


class AnalysisStage(IntEnum):
    """The stage of the classifier that had the last word."""

    UNSPECIFIED = 0
    LEXICAL = 1
    ENCODER = 2


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one tier is worth for a prompt: the calibrated probability of an acceptable answer, what the next tier adds
    to it, and the log-odds that was calibrated."""

    tier: Tier
    success: float
    gain: float = 0.0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Analysis:
    """How hard a prompt is (0 to 1), what it asks for, how long its answer will be, and how sure that is.

    `prompt_tokens` are the encoder's tokens, before truncation. `expected_output_tokens` is the median; `least` and
    `most` are the tenth and the ninetieth of a hundred such answers. `outlooks` has the small tier first.
    `encoder_sha256` names what made the embedding, where that is known.
    """

    complexity: float
    task: Task
    expected_output_tokens: int
    uncertainty: float
    prompt_tokens: int
    outlooks: tuple[Outlook, ...] = ()
    flags: frozenset[AnalysisFlag] = frozenset()
    stage: AnalysisStage = AnalysisStage.UNSPECIFIED
    model_version: str = ""
    calibration_version: str = ""
    least_output_tokens: int = 0
    most_output_tokens: int = 0
    embedding: bytes = b""
    encoder_sha256: bytes = b""

    def outlook(self, tier: Tier) -> Outlook | None:
        """What is said about a tier."""
        return next((outlook for outlook in self.outlooks if outlook.tier is tier), None)
