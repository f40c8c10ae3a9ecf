"""Training rows from the routing outcome sets: what a small and a large model made of each question."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

MMLU: Final = "mmlu_mixtral_gpt4"
GSM8K: Final = "gsm8k_mixtral_gpt4"
NINE: Final = "llmrouter_nine_models"
PRICES: Final = "llmrouter_prices.json"
SOURCES: Final = (NINE, MMLU, GSM8K)

# What the tiers mean. Tiers are levels of ability, and this is the pair that says which: of the models of a set with
# many, small is the best of at most 15 billion parameters and large the best of at least 40 billion (an 8B and a 51B
# model in the set that ships with the project). In the pair sets small is Mixtral-8x7B, which answers about as much of
# MMLU as that 8B model does, and large is GPT-4.
SMALL_AT_MOST: Final = 15.0
LARGE_AT_LEAST: Final = 40.0

# Benchmarks to kinds of work. A benchmark that is missing here gives no task label: word lists without an instruction
# (commongen) would teach that any list of words asks for a story.
TASK_OF_BENCHMARK: Final = {
    "agentverse-logicgrid": "reasoning",
    "agentverse-mgsm": "maths",
    "arc_challenge": "question_answering",
    "commonsense_qa": "question_answering",
    "gpqa": "question_answering",
    "gsm8k": "maths",
    "human_eval": "code",
    "math": "maths",
    "mbpp": "code",
    "mmlu": "question_answering",
    "natural_qa": "question_answering",
    "openbook_qa": "question_answering",
    "trivia_qa": "question_answering",
}
TASK_OF_SUBJECT: Final = {
    "abstract_algebra": "maths",
    "college_mathematics": "maths",
    "high_school_mathematics": "maths",
    "formal_logic": "reasoning",
}

_SIZE: Final = re.compile(r"(?<!\d)(?:(\d++)x)?(\d++(?:\.\d++)?)b\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One question: did the small model answer it, did the large one; 0 to 1.

    `group` is its subject or benchmark: what leave-groups-out leaves out. `kind` is the benchmark that it comes from,
    whichever set it was found in. `scores` are those of all models, where the set has many.
    """

    text: str
    source: str
    group: str
    kind: str
    small: float
    large: float
    task: str | None
    answer: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


class DataError(RuntimeError):
    """The folder does not hold the outcome sets."""


def load(folder: Path) -> list[Row]:
    """Every question of the three sets, in the order of their files; a text that comes twice is kept once."""
    rows = [*_nine(folder), *_mmlu(folder), *_gsm8k(folder)]
    return list({_key(row.text): row for row in reversed(rows)}.values())[::-1]


def prices(folder: Path) -> dict[str, float]:
    """Dollars for a million tokens of each model, in and out alike; empty where the folder has no prices."""
    path = folder / PRICES
    if not path.is_file():
        return {}
    content: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return {
        name: fmean([entry["input_usd_per_million"], entry["output_usd_per_million"]])
        for name, entry in content.items()
    }


def billions(model: str) -> float:
    """The parameters that a model's name tells; 0 where it tells none."""
    found = _SIZE.findall(model)
    return max((float(count or 1) * float(size) for count, size in found), default=0.0)


def reference_models(entries: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The small and the large model of a set with many: the best on average within each class of size."""
    models = sorted({name for entry in entries for name in entry["scores"]})
    small = [name for name in models if 0.0 < billions(name) <= SMALL_AT_MOST]
    large = [name for name in models if billions(name) >= LARGE_AT_LEAST]
    if not small or not large:
        raise DataError(f"{NINE}.jsonl needs a model of at most {SMALL_AT_MOST:g}B and one of {LARGE_AT_LEAST:g}B")
    return _best(small, entries), _best(large, entries)


def _best(models: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> str:
    means = {name: fmean([entry["scores"].get(name, 0.0) for entry in entries]) for name in models}
    return max(models, key=lambda name: means[name])


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def _nine(folder: Path) -> Iterator[Row]:
    entries = list(_lines(folder, NINE))
    small, large = reference_models(entries)
    for entry in entries:
        scores = entry["scores"]
        yield Row(
            text=entry["question"].strip(),
            source=NINE,
            group=entry["task"],
            kind=entry["task"],
            small=scores[small],
            large=scores[large],
            task=TASK_OF_BENCHMARK.get(entry["task"]),
            scores=scores,
        )


def _mmlu(folder: Path) -> Iterator[Row]:
    # Its questions carry their options, those of the other set do not: a reader tells them apart.
    for entry in _lines(folder, MMLU):
        task = TASK_OF_SUBJECT.get(entry["subject"], "question_answering")
        yield _pair(entry, MMLU, entry["subject"], "mmlu_with_options", task)


def _gsm8k(folder: Path) -> Iterator[Row]:
    for entry in _lines(folder, GSM8K):
        yield _pair(entry, GSM8K, "gsm8k", "gsm8k", "maths", entry["strong_response"])


def _pair(entry: dict[str, Any], source: str, group: str, kind: str, task: str, answer: str | None = None) -> Row:
    return Row(
        text=entry["prompt"].strip(),
        source=source,
        group=group,
        kind=kind,
        small=float(entry["weak_correct"]),
        large=float(entry["strong_correct"]),
        task=task,
        answer=answer,
    )


def _lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    path = folder / f"{name}.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: --data names the folder with the routing outcome sets") from None
