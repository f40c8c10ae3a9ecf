"""Prompts written for this project, for the kinds of work that no outcome set contains.

They are templates filled with topics and texts: they teach what a request for a summary looks like, not how people
phrase one. The model card says so, and the held-out accuracy leaves whole templates out.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

PER_TEMPLATE: Final = 14

# No outcome set has work of these kinds. Without any label the heads extrapolate from exam questions, and take a
# greeting for a hard one. So the success of a small and a large model is assumed for them, not measured.
ASSUMED_SUCCESS: Final = {
    "chat": (0.93, 0.97),
    "summary": (0.86, 0.93),
    "classification": (0.84, 0.91),
    "extraction": (0.82, 0.90),
    "translation": (0.76, 0.87),
    "creative": (0.80, 0.89),
}

_GAP: Final = re.compile(r"\{(topic|text|language)\}")


@dataclass(frozen=True, slots=True)
class Seed:
    """A written prompt. `template` is what a held-out fold leaves out."""

    text: str
    task: str
    template: str


def seeds(seed: int) -> list[Seed]:
    """All templates, each filled a few times; the same seed gives the same prompts."""
    rng = random.Random(seed)
    content = json.loads((files("farthing_models") / "task_seeds.json").read_text("utf-8"))
    return [
        Seed(text, task, f"{task}:{number}")
        for task, templates in content["templates"].items()
        for number, template in enumerate(templates)
        for text in _filled(template, content, rng)
    ]


def _filled(template: str, fillers: Mapping[str, Sequence[str]], rng: random.Random) -> Iterator[str]:
    if not _GAP.search(template):
        yield from _spelled(template)
        return
    yield from sorted({_GAP.sub(lambda gap: rng.choice(fillers[gap[1]]), template) for _ in range(PER_TEMPLATE)})


def _spelled(text: str) -> Iterator[str]:
    """A template without a gap, as careful and as careless people type it."""
    yield text
    if "```" not in text:
        yield text.lower()
        yield text.rstrip("?.!")
        yield f"{text} please"
