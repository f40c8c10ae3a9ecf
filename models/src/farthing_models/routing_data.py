"""Training rows from the routing outcome sets: which questions a small model gets wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

MMLU: Final = "mmlu_mixtral_gpt4"
GSM8K: Final = "gsm8k_mixtral_gpt4"
NINE: Final = "llmrouter_nine_models"
SOURCES: Final = (NINE, MMLU, GSM8K)

# What "a small model" means in `complexity`: the mean of these four 7B to 9B instruction models. Left out are a code
# model and two that hardly ever answer in the form that the benchmark reads (near 0 on multiple choice).
SMALL_MODELS: Final = ("qwen2.5-7b-instruct", "llama-3.1-8b-instruct", "gemma-2-9b-it", "mistral-7b-instruct-v0.3")
# A question counts as answerable when one of these two got it right, or GPT-4 in the two pair sets.
LARGE_MODELS: Final = ("llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1")
# The pair for APGR on the nine models, 8B against 51B.
WEAK_MODEL: Final = "llama-3.1-8b-instruct"
STRONG_MODEL: Final = "llama-3.1-nemotron-51b-instruct"

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


@dataclass(frozen=True, slots=True)
class Row:
    """One question. `group` is its subject or benchmark: what leave-groups-out leaves out.

    `answerable`: a large model answered it. Complexity is learnt from these alone: a question that all models fail says
    more about the question (or about how the benchmark reads answers) than about what a larger model is good for.
    """

    text: str
    source: str
    group: str
    small_fails: float
    answerable: bool
    weak_score: float
    strong_score: float
    task: str | None
    answer: str | None = None


class DataError(RuntimeError):
    """The folder does not hold the outcome sets."""


def load(folder: Path) -> list[Row]:
    """Every question of the three sets, in the order of their files; a text that comes twice is kept once."""
    rows = [*_nine(folder), *_mmlu(folder), *_gsm8k(folder)]
    return list({_key(row.text): row for row in reversed(rows)}.values())[::-1]


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def _nine(folder: Path) -> Iterator[Row]:
    for entry in _lines(folder, NINE):
        scores = entry["scores"]
        yield Row(
            text=entry["question"].strip(),
            source=NINE,
            group=entry["task"],
            small_fails=1.0 - fmean(scores[model] for model in SMALL_MODELS),
            answerable=max(scores[model] for model in LARGE_MODELS) > 0.5,
            weak_score=scores[WEAK_MODEL],
            strong_score=scores[STRONG_MODEL],
            task=TASK_OF_BENCHMARK.get(entry["task"]),
        )


def _mmlu(folder: Path) -> Iterator[Row]:
    for entry in _lines(folder, MMLU):
        yield _pair(entry, MMLU, entry["subject"], TASK_OF_SUBJECT.get(entry["subject"], "question_answering"))


def _gsm8k(folder: Path) -> Iterator[Row]:
    for entry in _lines(folder, GSM8K):
        yield _pair(entry, GSM8K, "gsm8k", "maths", entry["strong_response"])


def _pair(entry: dict[str, Any], source: str, group: str, task: str, answer: str | None = None) -> Row:
    return Row(
        text=entry["prompt"].strip(),
        source=source,
        group=group,
        small_fails=1.0 - float(entry["weak_correct"]),
        answerable=bool(entry["strong_correct"]),
        weak_score=float(entry["weak_correct"]),
        strong_score=float(entry["strong_correct"]),
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
