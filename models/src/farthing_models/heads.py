"""Fits each head on a part of the corpus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from farthing_classifier.domain import lexical
from farthing_models import fitting, lengths
from farthing_models.corpus import TASKS, Corpus, Mask
from farthing_models.fitting import Examples, Linear, Matrix, Net, Scaler
from farthing_models.heads_graph import Familiarity, FittedHeads, Lengths
from farthing_models.routing_data import MMLU, NINE, SOURCES
from farthing_models.task_seeds import ASSUMED_FAILS

ENSEMBLE: Final = 4
CENTRES: Final = 64
# MMLU has the most rows and one form; the other two sets should be heard as well.
SOURCE_WEIGHT: Final = {MMLU: 0.6}
ASSUMED_WEIGHT: Final = 0.25
REFERENCE: Final = SOURCES.index(NINE)
QUANTILES: Final = (0.5, 0.9)
STRANGE_QUANTILE: Final = 0.01
FAMILIAR_QUANTILE: Final = 0.25


def fit(corpus: Corpus, calibration: tuple[float, float], seed: int, tokenizer: Tokenizer) -> FittedHeads:
    """All heads, on everything."""
    scaler = Scaler.fit(corpus.lexical)
    inputs = scaler.inputs(corpus.embeddings, corpus.lexical)
    everything = np.ones(len(inputs), dtype=bool)
    return FittedHeads(
        scaler=scaler,
        complexity=complexity(corpus, inputs, everything, seed).calibrated(*calibration),
        tasks=tasks(corpus, inputs, everything),
        lengths=Lengths(
            base=lengths.base(),
            per_word=lengths.per_word(),
            solved=solutions(corpus, inputs, everything, tokenizer),
            solved_task=TASKS.index("maths"),
            words_feature=lexical.NAMES.index("words"),
        ),
        familiarity=familiarity(corpus, seed),
    )


def complexity(corpus: Corpus, inputs: Matrix, rows: Mask, seed: int) -> Net:
    """The probability that a small model fails where a large one does not, on the reference source's scale."""
    labels, weight = outcomes(corpus)
    rows = rows & (weight > 0.0)
    source = np.maximum(corpus.source, REFERENCE)
    examples = Examples(inputs[rows], labels[rows], source[rows], weight[rows])
    return fitting.ensemble(examples, [seed + number for number in range(ENSEMBLE)])


def outcomes(corpus: Corpus) -> tuple[Matrix, Matrix]:
    """Each text's share of failures, and its weight in training: 0 where there is no outcome and none is assumed."""
    labels, weight = np.zeros(len(corpus.task)), np.zeros(len(corpus.task))
    for number, row in enumerate(corpus.rows):
        labels[number] = row.small_fails
        weight[number] = SOURCE_WEIGHT.get(row.source, 1.0) if row.answerable else 0.0
    for task, fails in ASSUMED_FAILS.items():
        written = ~corpus.has_outcome & (corpus.task == TASKS.index(task))
        labels[written], weight[written] = fails, ASSUMED_WEIGHT
    return labels, weight


def tasks(corpus: Corpus, inputs: Matrix, rows: Mask) -> Linear:
    """The kind of work. Each kind weighs the same, and within it each source: MMLU's form is not what questions are."""
    rows = rows & (corpus.task >= 0)
    labels, source = corpus.task[rows], corpus.source[rows]
    cells = labels * (len(SOURCES) + 1) + source + 1
    _, cell, size = np.unique(cells, return_inverse=True, return_counts=True)
    cells_of_label = np.bincount(np.unique(cells) // (len(SOURCES) + 1), minlength=len(TASKS))
    weight = 1.0 / (size[cell] * cells_of_label[labels])
    return fitting.softmax_regression(inputs[rows], labels, weight, len(TASKS))


def solutions(corpus: Corpus, inputs: Matrix, rows: Mask, tokenizer: Tokenizer) -> Linear:
    """Logarithms of the length of a worked solution, p50 and p90, from the lexical features.

    With the embedding as well, 900 answers are too few: held out, it did worse than a constant.
    """
    answered, values = answer_lengths(corpus, rows, tokenizer)
    embedding = corpus.embeddings.shape[1]
    fitted = fitting.quantile_regression(inputs[answered, embedding:], values, QUANTILES)
    return Linear(np.vstack([np.zeros((embedding, len(QUANTILES))), fitted.weights]), fitted.bias)


def answer_lengths(corpus: Corpus, rows: Mask, tokenizer: Tokenizer) -> tuple[Mask, Matrix]:
    """Which rows have a full answer, and the logarithms of their tokens as the encoder counts them."""
    answers = [row.answer for row in corpus.rows]
    answered = np.zeros(len(corpus.task), dtype=bool)
    answered[: len(answers)] = [answer is not None for answer in answers]
    answered &= rows
    texts = [text for text, chosen in zip(answers, answered, strict=False) if chosen and text is not None]
    return answered, np.asarray([math.log(max(1, _tokens(text, tokenizer))) for text in texts])


def familiarity(corpus: Corpus, seed: int) -> Familiarity:
    """Centres of all texts; familiar is what three of four of them are."""
    centres = fitting.centroids(corpus.embeddings, CENTRES, seed)
    nearest = (corpus.embeddings @ centres.T).max(axis=1)
    strange, familiar = np.quantile(nearest, [STRANGE_QUANTILE, FAMILIAR_QUANTILE])
    return Familiarity(centres, float(strange), float(familiar))


def _tokens(text: str, tokenizer: Tokenizer) -> int:
    encoded: Sequence[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return len(encoded)
