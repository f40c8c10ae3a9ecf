"""The judgement of a prompt, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Final

from farthing_classifier.domain.length import OutputLength
from farthing_classifier.domain.tiers import Outlook

# Below this the most probable task is not worth naming. With ten tasks, a guess has 0.1.
TASK_SIGNAL: Final = 0.30
NO_SIGNAL_UNCERTAINTY: Final = 1.0


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


class Stage(Enum):
    """Which stage had the last word; the words of farthing.classifier.v1.AnalysisStage."""

    LEXICAL = "lexical"
    ENCODER = "encoder"


class Flags(Flag):
    """What to know about a judgement."""

    NONE = 0
    TRUNCATED = auto()
    NOT_TEXT = auto()
    UNFAMILIAR_LANGUAGE = auto()
    OUT_OF_DOMAIN = auto()
    NO_SIGNAL = auto()
    ADDRESSES_ROUTER = auto()


@dataclass(frozen=True, slots=True)
class Scores:
    """What the heads say of one prompt. `tiers` are log-odds, the small tier first; `log_tokens` the natural
    logarithms of the 10th, 50th and 90th of a hundred answers' tokens; `doubt` (of the first stage) how much the
    encoder would move it."""

    tiers: tuple[float, float, float]
    tasks: Mapping[Task, float]
    log_tokens: tuple[float, float, float]
    familiarity: float
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Set in training, on training data only. Above `doubt` the encoder is asked; below the others' familiarity a
    prompt is out of domain, or gives no signal at all."""

    doubt: float
    out_of_domain: float
    no_signal: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a prompt needs.

    `complexity` is derived from `tiers`. `embedding` is a unit vector as packed little-endian 32-bit floats, empty
    when no encoder ran. `tasks` is sorted, the most probable first. `familiarity` is 1 for prompts like those trained
    on.
    """

    complexity: float
    tiers: tuple[Outlook, ...]
    task: Task
    tasks: tuple[tuple[Task, float], ...]
    expected_output: OutputLength
    uncertainty: float
    familiarity: float
    embedding: bytes
    prompt_tokens: int
    flags: Flags
    stage: Stage
    model_version: str
    calibration_version: str


def chosen_task(tasks: Mapping[Task, float]) -> Task:
    """The most probable task, if anything speaks for it."""
    best = max(tasks, key=lambda task: tasks[task], default=Task.UNSPECIFIED)
    return best if tasks.get(best, 0.0) >= TASK_SIGNAL else Task.UNSPECIFIED


def ranked(tasks: Mapping[Task, float]) -> tuple[tuple[Task, float], ...]:
    """The tasks with their probabilities, the most probable first."""
    return tuple(sorted(tasks.items(), key=lambda item: (-item[1], item[0].value)))


def with_familiarity(flags: Flags, familiarity: float, limits: Limits) -> Flags:
    """What familiarity adds to the flags. Where it is least, nothing speaks for a tier."""
    if familiarity < limits.no_signal:
        flags |= Flags.NO_SIGNAL
    if familiarity < limits.out_of_domain:
        flags |= Flags.OUT_OF_DOMAIN
    return flags


def uncertainty(complexity: float, familiarity: float, flags: Flags) -> float:
    """0 certain, 1 a guess: how near to one half the complexity is, and how unlike the training data the prompt is.

    `familiarity` is 1 for prompts like those trained on and 0 for prompts unlike any: there even a complexity near 0
    or 1 is a guess.
    """
    decided = abs(2.0 * complexity - 1.0)
    known = 1.0 - decided * min(1.0, max(0.0, familiarity))
    return NO_SIGNAL_UNCERTAINTY if Flags.NO_SIGNAL in flags else known
