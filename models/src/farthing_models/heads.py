"""Fits the heads of both stages on a part of the corpus, and computes what they say.

What a tier is worth is taken apart: how likely a small model is to answer ("success"), and what a large model adds
to that ("gain"). Both start from the kind of question, recognised among the benchmarks and the written prompts, and
its level with the reference pair of models; a linear model over n-grams, trees over the surface, and a linear model
over the embedding add what differs within a kind, learnt from all sets. So a set with another pair of models teaches
which of its questions are harder, and its level is its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from farthing_classifier.domain import lexical
from farthing_models import corpus as corpora
from farthing_models import fitting, forest, lengths
from farthing_models.bags import Bags
from farthing_models.corpus import NO_TASK, TASKS, Corpus, Mask, Numbers, Seen, Views
from farthing_models.fitting import Linear, Matrix, Scaler
from farthing_models.forest import Forest
from farthing_models.routing_data import NINE, SOURCES

CENTRES: Final = 64
KIND_BUCKETS: Final = 4_096
SUCCESS, GAIN = 0, 1
# Strength of the penalties; all were chosen on held-out folds of the training data.
NGRAM_PENALTY: Final = 10.0
EMBEDDING_PENALTY: Final = 20.0
# The level of a kind leans towards the mean of all as if it had this many rows of it besides.
KIND_PRIOR_ROWS: Final = 20.0
# A kind that the reference set has at least so many rows of takes its level from there alone.
MIN_REFERENCE_ROWS: Final = 20
WRITTEN_WEIGHT: Final = 0.25
QUANTILES: Final = (0.1, 0.5, 0.9)
FAMILIAR_QUANTILE: Final = 0.25
# A gain is made positive smoothly: what a large model loses on a question is no reason to forget the order below zero.
GAIN_SOFTNESS: Final = 0.03
SUCCESS_RANGE: Final = (0.02, 0.97)
MOST: Final = 0.99
LEAST: Final = 1e-4
# No set has models between small and large: a medium tier is taken to be half way.
MEDIUM_SHARE: Final = 0.5
ENCODER_SHARE: Final = 0.4
# So much of what the rest of a text says counts; held out, the whole of it was too sure of itself.
REST_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One value of a text by its words and surface: the level of its kind, what each bucket adds, and trees."""

    scaler: Scaler
    kind_table: Matrix
    kind_surface: Linear
    levels: Matrix
    table: Matrix
    forest: Forest

    def kinds(self, seen: Seen) -> Matrix:
        """The probability of each kind."""
        logits = seen.bags.folded(len(self.kind_table)) @ self.kind_table
        return fitting.softmax(logits + self.kind_surface(self.scaler.scaled(seen.lexical)))

    def __call__(self, seen: Seen) -> Matrix:
        """One number a text, before it is bent into its range."""
        return np.asarray(self.kinds(seen) @ self.levels + seen.bags.sums(self.table) + self.forest(seen.lexical))


@dataclass(frozen=True, slots=True, eq=False)
class Stage0:
    """Words and surface. Success is judged from the rest of a text, all else from the whole of it; `common` says how
    common each bucket is."""

    success: Estimate
    gain: Estimate
    task_of_kind: Matrix
    common: Matrix
    familiarity: tuple[float, float]
    doubt: Linear
    lengths: Lengths

    def worth(self, views: Views) -> Matrix:
        """Success and gain, before they are bent into their ranges."""
        return np.column_stack([self.success(views.rest), self.gain(views.whole)])

    def scores(self, views: Views) -> Matrix:
        """The log-odds of each tier."""
        return tier_scores(self.worth(views))

    def tasks(self, seen: Seen) -> Matrix:
        """The probability of each task."""
        return self.gain.kinds(seen) @ self.task_of_kind

    def known(self, bags: Bags) -> Matrix:
        """How common a text's n-grams are, before scaling."""
        return np.asarray(bags.shares() @ self.common)

    def familiar(self, bags: Bags) -> Matrix:
        """0 to 1."""
        low, high = self.familiarity
        return np.clip((self.known(bags) - low) / (high - low), 0.0, 1.0)

    def doubts(self, views: Views) -> Matrix:
        """How much the encoder would be expected to move the success of a tier."""
        return np.asarray(np.clip(self.doubt(self.doubt_inputs(views))[:, 0], 0.0, 1.0))

    def doubt_inputs(self, views: Views) -> Matrix:
        """What the doubt is judged by."""
        best = self.gain.kinds(views.whole).max(axis=1)
        return np.column_stack([best, self.worth(views), self.familiar(views.whole.bags)])


@dataclass(frozen=True, slots=True, eq=False)
class Stage1:
    """The encoder, joined with the first stage: ENCODER_SHARE of the gain is its own.

    Success stays what the first stage says: the encoder reads a text from its beginning, and what is put there would
    count again. `levels` and `residual` are of the gain alone.
    """

    scaler: Scaler
    kind: Linear
    levels: Matrix
    task_of_kind: Matrix
    residual: Linear
    centres: Matrix
    familiarity: tuple[float, float]
    lengths: Lengths

    def kinds(self, embeddings: Matrix, surface: Matrix) -> Matrix:
        """The probability of each kind."""
        return fitting.softmax(self.kind(self.scaler.inputs(embeddings, surface)))

    def scores(self, embeddings: Matrix, surface: Matrix, stage0_scores: Matrix) -> Matrix:
        """The log-odds of each tier."""
        odds = fitting.sigmoid(stage0_scores)
        before = unbent(odds[:, 2] - odds[:, 0])
        own = self.kinds(embeddings, surface) @ self.levels + self.residual(embeddings)[:, 0]
        return tier_scores(np.column_stack([odds[:, 0], (1.0 - ENCODER_SHARE) * before + ENCODER_SHARE * own]))

    def tasks(self, embeddings: Matrix, surface: Matrix) -> Matrix:
        """The probability of each task."""
        return self.kinds(embeddings, surface) @ self.task_of_kind

    def familiar(self, embeddings: Matrix) -> Matrix:
        """0 to 1, by the nearest centre of the training texts."""
        low, high = self.familiarity
        nearest = (embeddings @ self.centres.T).max(axis=1)
        return np.asarray(np.clip((nearest - low) / (high - low), 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Natural logarithms of an answer's tokens, one column for each of QUANTILES.

    `base` has a row for each task, `per_word` what each unit of log(1 + words) adds. `solved` is fitted on the scaled
    lexical features, and adds to the row of the task numbered `solved_task`.
    """

    base: Matrix
    per_word: Matrix
    solved: Linear
    solved_task: int
    words_feature: int

    def __call__(self, tasks: Matrix, surface: Matrix, scaled: Matrix) -> Matrix:
        """From the tasks' probabilities and the lexical features, raw and scaled."""
        words = surface[:, [self.words_feature]]
        fitted = tasks[:, [self.solved_task]] * self.solved(scaled)
        return tasks @ self.base + (tasks @ self.per_word)[:, None] * words + fitted


@dataclass(frozen=True, slots=True, eq=False)
class FittedHeads:
    """Both stages."""

    stage0: Stage0
    stage1: Stage1

    def scores(self, corpus: Corpus, rows: Mask) -> tuple[Matrix, Matrix]:
        """The tiers' log-odds of some texts, by the first stage alone and by both."""
        first = self.stage0.scores(corpus.views(rows))
        return first, self.stage1.scores(corpus.embeddings[rows], corpus.lexical[rows], first)


def tier_scores(worth: Matrix) -> Matrix:
    """Log-odds of small, medium and large from success and gain: rising from tier to tier."""
    small = np.clip(worth[:, 0], *SUCCESS_RANGE)
    gain = GAIN_SOFTNESS * np.logaddexp(0.0, worth[:, 1] / GAIN_SOFTNESS)
    large = np.minimum(small + gain, MOST)
    odds = np.column_stack([small, small + MEDIUM_SHARE * (large - small), large])
    return np.asarray(np.log(odds / (1.0 - odds)))


def unbent(gain: Matrix) -> Matrix:
    """A gain as it was before it was made positive."""
    return np.asarray(GAIN_SOFTNESS * np.log(np.maximum(np.exp(gain / GAIN_SOFTNESS) - 1.0, LEAST)))


def fit(corpus: Corpus, rows: Mask, seed: int, tokenizer: Tokenizer) -> FittedHeads:
    """Both stages on the chosen rows. The same seed gives the same heads."""
    scaler = Scaler.fit(corpus.lexical[rows])
    levels, deviations, weight = targets(corpus, rows)
    solved = _lengths(corpus, scaler, rows, tokenizer)
    mapping = task_of_kind(corpus, rows)
    stage1 = _stage1(corpus, rows, scaler, levels, deviations, weight, mapping, solved, seed)
    return FittedHeads(_stage0(corpus, rows, levels, deviations, weight, mapping, solved, stage1, seed), stage1)


def targets(corpus: Corpus, rows: Mask) -> tuple[Matrix, Matrix, Matrix]:
    """The level of each kind; what each row's success and gain are above or below the level of its kind in its own set;
    and the rows' weights. Written prompts have no outcome: they are as their kind is, and weigh less."""
    values = np.column_stack([corpus.small, corpus.large - corpus.small])
    deviations = np.zeros_like(values)
    for source in range(len(SOURCES)):
        for kind in range(len(corpus.kinds)):
            cell = rows & (corpus.source == source) & (corpus.kind == kind)
            if cell.any():
                deviations[cell] = values[cell] - values[cell].mean(axis=0)
    return _levels(corpus, rows, values), deviations, np.where(corpus.has_outcome, 1.0, WRITTEN_WEIGHT)


def _levels(corpus: Corpus, rows: Mask, values: Matrix) -> Matrix:
    outcome = rows & corpus.has_outcome
    reference = outcome & (corpus.source == SOURCES.index(NINE))
    middle = values[reference if reference.any() else outcome].mean(axis=0)
    levels = np.tile(middle, (len(corpus.kinds), 1))
    for kind in range(len(corpus.kinds)):
        chosen = reference & (corpus.kind == kind)
        if chosen.sum() < MIN_REFERENCE_ROWS:
            chosen = outcome & (corpus.kind == kind)
        if chosen.any():
            total = values[chosen].sum(axis=0) + KIND_PRIOR_ROWS * middle
            levels[kind] = total / (chosen.sum() + KIND_PRIOR_ROWS)
    for kind, name in enumerate(corpus.kinds):
        if name.startswith("written:"):
            levels[kind] = _written_level(corpus, name, rows & corpus.has_outcome, levels, middle)
    return levels


def _written_level(corpus: Corpus, name: str, outcome: Mask, levels: Matrix, middle: Matrix) -> Matrix:
    """What is assumed for the kind; without an assumption, the mean level of the benchmarks of the same task."""
    success = corpora.assumed(name)
    if success is not None:
        return np.asarray([success[0], success[1] - success[0]])
    alike = outcome & (corpus.task == TASKS.index(name.removeprefix("written:")))
    kinds = np.unique(corpus.kind[alike])
    return np.asarray(levels[kinds].mean(axis=0)) if len(kinds) else middle


def task_of_kind(corpus: Corpus, rows: Mask) -> Matrix:
    """For each kind the shares of its rows' tasks; a kind without a label says nothing, and is spread over all."""
    mapping = np.zeros((len(corpus.kinds), len(TASKS)))
    labelled = rows & (corpus.task != NO_TASK)
    np.add.at(mapping, (corpus.kind[labelled], corpus.task[labelled]), 1.0)
    for kind, name in enumerate(corpus.kinds):
        if name.startswith("written:"):
            mapping[kind] = np.eye(len(TASKS))[TASKS.index(name.removeprefix("written:"))]
    empty = mapping.sum(axis=1) == 0.0
    mapping[empty] = 1.0
    return np.asarray(mapping / mapping.sum(axis=1, keepdims=True))


def _kind_weight(corpus: Corpus, rows: Mask) -> Matrix:
    """Rare kinds count for more than their share, common ones for less."""
    sizes = np.bincount(corpus.kind[rows], minlength=len(corpus.kinds))
    return np.asarray(1.0 / np.sqrt(sizes[corpus.kind[rows]]))


def _stage0(
    corpus: Corpus,
    rows: Mask,
    levels: Matrix,
    deviations: Matrix,
    weight: Matrix,
    mapping: Matrix,
    solved: Lengths,
    stage1: Stage1,
    seed: int,
) -> Stage0:
    views, own, heavy = corpus.views(rows), deviations[rows], weight[rows]
    middle = float(corpus.small[rows & corpus.has_outcome].mean())
    shrunk = middle + REST_SHARE * (levels[:, SUCCESS] - middle)
    pushed = corpus.pushed.part(rows)
    success = _estimate(corpus, rows, pushed, shrunk, REST_SHARE * own[:, SUCCESS], heavy, seed)
    gain = _estimate(corpus, rows, views.whole, levels[:, GAIN], own[:, GAIN], heavy, seed + GAIN)
    bags = views.whole.bags
    common = np.log1p(np.bincount(bags.matrix.indices, minlength=bags.matrix.shape[1]))
    no_doubt = Linear(np.zeros((4, 1)), np.zeros(1))
    unfinished = Stage0(success, gain, mapping, common, (0.0, 1.0), no_doubt, solved)
    known = unfinished.known(bags)
    measured = replace(unfinished, familiarity=(0.0, float(np.quantile(known, FAMILIAR_QUANTILE))))
    first = measured.scores(views)
    moved = np.abs(
        fitting.sigmoid(stage1.scores(corpus.embeddings[rows], corpus.lexical[rows], first)) - fitting.sigmoid(first)
    ).max(axis=1)
    doubt = fitting.ridge(measured.doubt_inputs(views), moved[:, None], np.ones(len(moved)), 1.0)
    return replace(measured, doubt=doubt)


def _estimate(
    corpus: Corpus, rows: Mask, seen: Seen, levels: Matrix, deviations: Matrix, weight: Matrix, seed: int
) -> Estimate:
    scaler = Scaler.fit(seen.lexical)
    kind_table, kind_surface = fitting.bag_softmax_regression(
        seen.bags.folded(KIND_BUCKETS),
        scaler.scaled(seen.lexical),
        corpus.kind[rows],
        _kind_weight(corpus, rows),
        len(levels),
    )
    table = fitting.sparse_ridge(seen.bags.matrix, deviations[:, None], weight, NGRAM_PENALTY)[:, 0]
    trees = forest.fit(seen.lexical, deviations, weight, seed)
    return Estimate(scaler, kind_table, kind_surface, levels, table, trees)


def _stage1(
    corpus: Corpus,
    rows: Mask,
    scaler: Scaler,
    levels: Matrix,
    deviations: Matrix,
    weight: Matrix,
    mapping: Matrix,
    solved: Lengths,
    seed: int,
) -> Stage1:
    embeddings = corpus.embeddings[rows]
    inputs = scaler.inputs(embeddings, corpus.lexical[rows])
    kind = fitting.softmax_regression(
        inputs, corpus.kind[rows], _kind_weight(corpus, rows), len(levels), epochs=240, decay=1e-4
    )
    residual = fitting.ridge(embeddings, deviations[rows][:, [GAIN]], weight[rows], EMBEDDING_PENALTY)
    centres = fitting.centroids(embeddings, min(CENTRES, len(embeddings)), seed)
    nearest = (embeddings @ centres.T).max(axis=1)
    familiar = (0.0, float(np.quantile(nearest, FAMILIAR_QUANTILE)))
    return Stage1(scaler, kind, levels[:, GAIN], mapping, residual, centres, familiar, solved)


def _lengths(corpus: Corpus, scaler: Scaler, rows: Mask, tokenizer: Tokenizer) -> Lengths:
    return Lengths(
        base=lengths.base(),
        per_word=lengths.per_word(),
        solved=solutions(corpus, scaler, rows, tokenizer),
        solved_task=TASKS.index("maths"),
        words_feature=lexical.NAMES.index("words"),
    )


def solutions(corpus: Corpus, scaler: Scaler, rows: Mask, tokenizer: Tokenizer) -> Linear:
    """Logarithms of the length of a worked solution, a column for each of QUANTILES, from the lexical features.

    With the embedding as well, 900 answers are too few: held out, it did worse than a constant. Without any answer, the
    prior for reasoning stands in.
    """
    answered, values = answer_lengths(corpus, rows, tokenizer)
    if len(answered) < MIN_REFERENCE_ROWS:
        base = lengths.base()[TASKS.index("reasoning")]
        return Linear(np.zeros((corpus.lexical.shape[1], len(QUANTILES))), base)
    return fitting.quantile_regression(scaler.scaled(corpus.lexical[answered]), values, QUANTILES)


def answer_lengths(corpus: Corpus, rows: Mask, tokenizer: Tokenizer) -> tuple[Numbers, Matrix]:
    """Which rows have a full answer, and the logarithms of their tokens as the encoder counts them."""
    answered = [number for number, row in enumerate(corpus.rows) if rows[number] and row.answer is not None]
    texts = [corpus.rows[number].answer or "" for number in answered]
    tokens = [math.log(max(1, _tokens(text, tokenizer))) for text in texts]
    return np.asarray(answered, dtype=np.int64), np.asarray(tokens)


def _tokens(text: str, tokenizer: Tokenizer) -> int:
    encoded: Sequence[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return len(encoded)
