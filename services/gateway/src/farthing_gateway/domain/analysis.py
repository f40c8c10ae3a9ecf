"""The classifier's view of a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.model import Task


@dataclass(frozen=True, slots=True)
class Analysis:
    """How hard a prompt is (0 to 1), what it asks for, how long its answer will be, and how sure that is.

    `prompt_tokens` are the encoder's tokens, before truncation.
    """

    complexity: float
    task: Task
    expected_output_tokens: int
    uncertainty: float
    prompt_tokens: int
