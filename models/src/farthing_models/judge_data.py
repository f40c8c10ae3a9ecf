"""Answers of two models to the same problems, as the judge sees them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.judging import final_answer, word_problems
from farthing_classifier.domain.judging.agreement import PRECISION
from farthing_classifier.domain.judging.examination import EVIDENCE, Candidate, Examination, Finish, examine
from farthing_models.fitting import Matrix
from farthing_models.routing_data import GSM8K, DataError

Rows = npt.NDArray[np.int64]

FOLDS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The answers of one model, row by row. Where `with_numbers` is 0, the row of `numbers` is empty."""

    numbers: Matrix
    with_numbers: Matrix
    evidence: Matrix
    examined: tuple[Examination, ...]

    def part(self, rows: Rows) -> Answers:
        """Some of the rows."""
        kept = tuple(self.examined[row] for row in rows)
        return Answers(self.numbers[rows], self.with_numbers[rows], self.evidence[rows], kept)


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """The same problems, answered by a weak and a strong model; `*_right` as the data say.

    `strong_mended`: a strong answer that comes to the same number as a right one counts as right. The data count
    "$57.00" as wrong where 57 was expected; that is for training alone.
    """

    prompts: tuple[str, ...]
    weak: Answers
    strong: Answers
    weak_right: Matrix
    strong_right: Matrix
    strong_mended: Matrix
    weak_answers: tuple[str, ...]
    strong_answers: tuple[str, ...]


def load(folder: Path) -> Problems:
    """All rows of the set that has answers in full."""
    entries = _entries(folder)
    prompts = tuple(str(entry["prompt"]) for entry in entries)
    weak = tuple(str(entry["weak_response"]) for entry in entries)
    strong = tuple(str(entry["strong_response"]) for entry in entries)
    weak_right = np.array([float(entry["weak_correct"]) for entry in entries])
    strong_right = np.array([float(entry["strong_correct"]) for entry in entries])
    same = np.array([_same(left, right) for left, right in zip(weak, strong, strict=True)])
    return Problems(
        prompts,
        answers(prompts, weak),
        answers(prompts, strong),
        weak_right,
        strong_right,
        np.maximum(strong_right, weak_right * same),
        weak,
        strong,
    )


def answers(prompts: tuple[str, ...], texts: tuple[str, ...]) -> Answers:
    """Each text as the answer to its prompt: the judge's own code, and nothing that is not known when it is served."""
    examined = tuple(
        examine(Candidate(prompt, text, finish=Finish.UNSPECIFIED, task=Task.MATHS))
        for prompt, text in zip(prompts, texts, strict=True)
    )
    empty = (0.0,) * len(word_problems.NAMES)
    return Answers(
        np.array([empty if one.numbers is None else one.numbers for one in examined]),
        np.array([float(one.numbers is not None) for one in examined]),
        np.array([one.evidence for one in examined]).reshape(-1, len(EVIDENCE)),
        examined,
    )


def joined(first: Answers, second: Answers) -> Answers:
    """The rows of both, one after the other."""
    return Answers(
        np.vstack([first.numbers, second.numbers]),
        np.concatenate([first.with_numbers, second.with_numbers]),
        np.vstack([first.evidence, second.evidence]),
        first.examined + second.examined,
    )


def sha256(problems: Problems) -> str:
    """Of all texts, in order: which rows a judge was trained on."""
    digest = hashlib.sha256()
    for texts in zip(problems.prompts, problems.weak_answers, problems.strong_answers, strict=True):
        digest.update("\0".join(texts).encode() + b"\1")
    return digest.hexdigest()


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / f"{GSM8K}.jsonl"
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path} is missing: --data names the folder with the routing outcome sets") from None


def _same(left: str, right: str) -> float:
    mine, theirs = final_answer.find(left).number, final_answer.find(right).number
    return float(mine is not None and theirs is not None and abs(mine - theirs) <= PRECISION)


def folds(problems: Problems, seed: int) -> list[Rows]:
    """Row numbers of each fold, both models' answers to a problem together; right and wrong in equal shares."""
    rng = np.random.default_rng(seed)
    assigned = np.zeros(len(problems.prompts), dtype=np.int64)
    for value in (0.0, 1.0):
        rows = np.flatnonzero(problems.weak_right == value)
        assigned[rng.permutation(rows)] = np.arange(len(rows)) % FOLDS
    return [np.flatnonzero(assigned == fold) for fold in range(FOLDS)]
