"""The judgement of a prompt, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Final

from farthing_classifier.domain.length import OutputLength

# Below this the most probable task is not worth naming. With ten tasks, a guess has 0.1.
TASK_SIGNAL: Final = 0.30
NOT_TEXT_UNCERTAINTY: Final = 1.0
UNFAMILIAR_UNCERTAINTY: Final = 0.9


class Task(Enum):
    """What kind of work a prompt asks for; the words of farthing.type.v1.Task."""

    UNSPECIFIED = "unspecified"
    CHAT = "chat"
    QUESTION_ANSWERING = "question_answering"
    MATHS = "maths"
    CODE = "code"
    EXTRACTION = "extraction"
    SUMMARY = "summary"
    TRANSLATION = "translation"
    CLASSIFICATION = "classification"
    CREATIVE = "creative"
    REASONING = "reasoning"


class Flags(Flag):
    """What to know about a judgement."""

    NONE = 0
    TRUNCATED = auto()
    NOT_TEXT = auto()
    UNFAMILIAR_LANGUAGE = auto()


@dataclass(frozen=True, slots=True)
class Scores:
    """What the heads say of one prompt."""

    complexity: float
    tasks: Mapping[Task, float]
    log_p50_tokens: float
    log_p90_tokens: float
    familiarity: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a prompt needs.

    `complexity` is the probability that a small model does not answer acceptably what a large one does. `embedding` is
    a unit vector as packed little-endian 32-bit floats. `tasks` is sorted, the most probable first.
    """

    complexity: float
    task: Task
    tasks: tuple[tuple[Task, float], ...]
    expected_output: OutputLength
    uncertainty: float
    embedding: bytes
    prompt_tokens: int
    flags: Flags
    model_version: str


def chosen_task(tasks: Mapping[Task, float]) -> Task:
    """The most probable task, if anything speaks for it."""
    best = max(tasks, key=lambda task: tasks[task], default=Task.UNSPECIFIED)
    return best if tasks.get(best, 0.0) >= TASK_SIGNAL else Task.UNSPECIFIED


def ranked(tasks: Mapping[Task, float]) -> tuple[tuple[Task, float], ...]:
    """The tasks with their probabilities, the most probable first."""
    return tuple(sorted(tasks.items(), key=lambda item: (-item[1], item[0].value)))


def uncertainty(complexity: float, familiarity: float, flags: Flags) -> float:
    """0 certain, 1 a guess: how near to one half the probability is, and how unlike the training data the prompt is.

    `familiarity` is 1 for prompts like those trained on and 0 for prompts unlike any: there even a probability near 0
    or 1 is a guess.
    """
    decided = abs(2.0 * complexity - 1.0)
    known = 1.0 - decided * min(1.0, max(0.0, familiarity))
    if Flags.NOT_TEXT in flags:
        return NOT_TEXT_UNCERTAINTY
    if Flags.UNFAMILIAR_LANGUAGE in flags:
        return max(known, UNFAMILIAR_UNCERTAINTY)
    return known
