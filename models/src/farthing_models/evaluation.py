"""How the heads do on what they were not fitted on: five folds at random, and five that leave whole groups out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from farthing_models import fitting, heads, metrics
from farthing_models.corpus import TASKS, Corpus, Mask, Numbers
from farthing_models.fitting import Matrix, Scaler
from farthing_models.routing_data import GSM8K, MMLU, NINE, SOURCES

FOLDS: Final = 5
Figures = dict[str, float]

_SHORT: Final = {NINE: "nine", MMLU: "mmlu", GSM8K: "gsm8k"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out figures by name, and the calibration of the complexity head that was found on held-out folds."""

    figures: Figures
    calibration: tuple[float, float]


def evaluate(corpus: Corpus, seed: int, tokenizer: Tokenizer) -> Evaluation:
    """Fits every head ten times; takes a minute or two."""
    inputs = Scaler.fit(corpus.lexical).inputs(corpus.embeddings, corpus.lexical)
    rng = np.random.default_rng(seed)
    at_random = rng.integers(0, FOLDS, len(inputs))
    by_group = _group_folds(corpus, rng)
    logits = _held_out(at_random, lambda rows: heads.complexity(corpus, inputs, rows, seed).logits, inputs)
    strange = _held_out(by_group, lambda rows: heads.complexity(corpus, inputs, rows, seed).logits, inputs)
    calibration = _calibration(corpus, logits)
    figures = _complexity_figures(corpus, logits, calibration, "in_domain")
    figures |= _complexity_figures(corpus, strange, calibration, "leave_groups_out")
    figures |= _baseline_figures(corpus)
    figures |= _task_figures(corpus, inputs, at_random, by_group)
    figures |= _length_figures(corpus, inputs, at_random, tokenizer)
    return Evaluation({name: round(value, 4) for name, value in figures.items()}, calibration)


def _held_out(folds: Numbers, fit: Callable[[Mask], Callable[[Matrix], Matrix]], inputs: Matrix) -> Matrix:
    """Predictions for each row by a model that has not seen its fold."""
    parts = {fold: fit(folds != fold)(inputs[folds == fold]) for fold in range(FOLDS)}
    out = np.zeros((len(inputs), *parts[0].shape[1:]))
    for fold, part in parts.items():
        out[folds == fold] = part
    return out


def _group_folds(corpus: Corpus, rng: np.random.Generator) -> Numbers:
    """Each group whole in one fold. GSM8K is one group, and is held out whole."""
    names = sorted(set(corpus.group))
    fold = dict(zip(names, rng.permutation(len(names)) % FOLDS, strict=True))
    return np.asarray([fold[name] for name in corpus.group], dtype=np.int64)


def _fails(corpus: Corpus) -> Matrix:
    return np.asarray([row.small_fails for row in corpus.rows])


def _answerable(corpus: Corpus, source: str) -> Numbers:
    """The rows of a source that complexity is about."""
    answerable = np.asarray([row.answerable for row in corpus.rows])
    return np.flatnonzero(answerable & (corpus.source[: len(corpus.rows)] == SOURCES.index(source)))


def _calibration(corpus: Corpus, logits: Matrix) -> tuple[float, float]:
    """On the reference source alone: the probability is about its small models."""
    reference = _answerable(corpus, NINE)
    return fitting.calibration(logits[reference], _fails(corpus)[reference])


def _complexity_figures(corpus: Corpus, logits: Matrix, calibration: tuple[float, float], name: str) -> Figures:
    slope, shift = calibration
    probabilities, fails = fitting.sigmoid(logits * slope + shift), _fails(corpus)
    figures: Figures = {}
    for number, source in enumerate(SOURCES):
        label, answerable = f"{_SHORT[source]}_{name}", _answerable(corpus, source)
        figures[f"complexity_auc_{label}"] = metrics.auc(probabilities[answerable], fails[answerable])
        rows = np.flatnonzero(corpus.source == number)
        figures |= _routing_figures(corpus, rows, probabilities[rows], label)
    reference = _answerable(corpus, NINE)
    figures[f"complexity_ece_nine_{name}"] = metrics.ece(probabilities[reference], fails[reference])
    return figures


def _routing_figures(corpus: Corpus, rows: Numbers, scores: Matrix, label: str) -> Figures:
    weak = np.asarray([corpus.rows[row].weak_score for row in rows])
    strong = np.asarray([corpus.rows[row].strong_score for row in rows])
    return {
        f"apgr_{label}": metrics.apgr(scores, weak, strong),
        f"strong_calls_at_95_{label}": metrics.strong_calls_for(0.95, scores, weak, strong),
    }


def _baseline_figures(corpus: Corpus) -> Figures:
    """The length of the prompt as the score: what any router must beat. A random order has an APGR of 0.5."""
    lengths = np.asarray([float(len(row.text)) for row in corpus.rows])
    figures: Figures = {}
    for number, source in enumerate(SOURCES):
        label, answerable = f"{_SHORT[source]}_by_length", _answerable(corpus, source)
        figures[f"complexity_auc_{label}"] = metrics.auc(lengths[answerable], _fails(corpus)[answerable])
        rows = np.flatnonzero(corpus.source == number)
        figures |= _routing_figures(corpus, rows, lengths[rows], label)
    return figures


def _task_figures(corpus: Corpus, inputs: Matrix, at_random: Numbers, by_group: Numbers) -> Figures:
    """Rows of benchmarks by random folds; written prompts with their whole template left out."""
    chosen = np.where(corpus.has_outcome, at_random, by_group)
    probabilities = fitting.softmax(_held_out(chosen, lambda rows: heads.tasks(corpus, inputs, rows), inputs))
    right = probabilities.argmax(axis=1) == corpus.task
    known = corpus.task >= 0
    benchmarks, written = known & corpus.has_outcome, known & ~corpus.has_outcome
    figures = {
        "task_accuracy_benchmarks": float(right[benchmarks].mean()),
        "task_accuracy_unseen_templates": float(right[written].mean()),
        "task_ece": metrics.ece(probabilities.max(axis=1)[known], right[known].astype(np.float64)),
    }
    for number, task in enumerate(TASKS):
        figures[f"task_recall_unseen_templates_{task}"] = float(right[written & (corpus.task == number)].mean())
    return figures


def _length_figures(corpus: Corpus, inputs: Matrix, folds: Numbers, tokenizer: Tokenizer) -> Figures:
    """The share of GSM8K answers under each predicted quantile, and the pinball loss beside constant quantiles."""
    everything = np.ones(len(inputs), dtype=bool)
    answered, values = heads.answer_lengths(corpus, everything, tokenizer)
    predicted = _held_out(folds, lambda rows: heads.solutions(corpus, inputs, rows, tokenizer), inputs)[answered]
    constant = np.quantile(values, heads.QUANTILES)
    figures: Figures = {}
    for column, level in enumerate(heads.QUANTILES):
        name = f"p{round(level * 100)}"
        figures[f"gsm8k_length_share_under_{name}"] = float((values <= predicted[:, column]).mean())
        figures[f"gsm8k_length_pinball_{name}"] = _pinball(values - predicted[:, column], level)
        figures[f"gsm8k_length_pinball_{name}_constant"] = _pinball(values - constant[column], level)
    return figures


def _pinball(errors: Matrix, level: float) -> float:
    return float(np.maximum(level * errors, (level - 1.0) * errors).mean())
