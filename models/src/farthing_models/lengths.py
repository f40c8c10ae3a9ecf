"""How long answers are, by kind of work, and what each figure is based on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from farthing_models.corpus import TASKS
from farthing_models.fitting import Matrix

MEASURED_CHAT: Final = "measured: generated tokens of the conversation trace of Azure's LLM service, 2023"
FITTED_MATHS: Final = "fitted: GPT-4's answers to GSM8K questions"
ASSUMED: Final = "assumed: no answers of this kind in the data"


@dataclass(frozen=True, slots=True)
class Prior:
    """Tokens at p10, p50 and p90; with `per_word` 1 they are multiples of the prompt's number of words instead."""

    p10: float
    p50: float
    p90: float
    basis: str
    per_word: float = 0.0


PRIORS: Final[dict[str, Prior]] = {
    "chat": Prior(54, 129, 424, MEASURED_CHAT),
    "question_answering": Prior(15, 70, 260, ASSUMED),
    "maths": Prior(1, 1, 1, FITTED_MATHS),
    "code": Prior(60, 180, 480, ASSUMED),
    "extraction": Prior(12, 50, 160, ASSUMED),
    "summary": Prior(35, 80, 220, ASSUMED),
    # Prompt and answer are about as long; the instruction is in the words, too.
    "translation": Prior(0.9, 1.3, 1.9, ASSUMED, per_word=1.0),
    "classification": Prior(1, 5, 60, ASSUMED),
    "creative": Prior(90, 320, 750, ASSUMED),
    "reasoning": Prior(70, 220, 560, ASSUMED),
}


def base() -> Matrix:
    """Logarithms of the priors, a row for each of TASKS."""
    return np.asarray(
        [[math.log(PRIORS[task].p10), math.log(PRIORS[task].p50), math.log(PRIORS[task].p90)] for task in TASKS]
    )


def per_word() -> Matrix:
    """What each unit of log(1 + words) adds, for each of TASKS."""
    return np.asarray([PRIORS[task].per_word for task in TASKS])


def bases() -> dict[str, str]:
    """What the figures of each task rest on, for the manifest."""
    return {task: PRIORS[task].basis for task in TASKS}
