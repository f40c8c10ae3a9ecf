"""The small models behind the heads, fitted with NumPy alone: seeded, and fast on one core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

EMBEDDING_SCALE: Final = 15.0
LEXICAL_CLIP: Final = 4.0
_ADAM: Final = (0.9, 0.999, 1e-8)
_BATCH: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Lexical features to zero mean and unit variance."""

    mean: Matrix
    deviation: Matrix

    @classmethod
    def fit(cls, lexical: Matrix) -> Scaler:
        """Mean and deviation of each column."""
        return cls(lexical.mean(axis=0), lexical.std(axis=0) + 1e-3)

    def inputs(self, embeddings: Matrix, lexical: Matrix) -> Matrix:
        """What every head reads: the embedding and the lexical features at comparable scales."""
        scaled = np.clip((lexical - self.mean) / self.deviation, -LEXICAL_CLIP, LEXICAL_CLIP)
        return np.hstack([embeddings * EMBEDDING_SCALE, scaled])


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """One hidden layer of rectifiers, one output: a logit."""

    hidden: Matrix
    hidden_bias: Matrix
    out: Matrix
    bias: float

    def logits(self, inputs: Matrix) -> Matrix:
        """One number a row."""
        return np.asarray(np.maximum(inputs @ self.hidden + self.hidden_bias, 0.0) @ self.out + self.bias)

    def calibrated(self, slope: float, shift: float) -> Net:
        """The net whose logits are slope · logit + shift."""
        return Net(self.hidden, self.hidden_bias, self.out * slope, self.bias * slope + shift)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Inputs, soft labels in [0, 1], the number of each row's source, and its weight."""

    inputs: Matrix
    labels: Matrix
    source: npt.NDArray[np.int64]
    weight: Matrix

    def part(self, rows: npt.NDArray[np.bool_]) -> Examples:
        """Some of the rows."""
        return Examples(self.inputs[rows], self.labels[rows], self.source[rows], self.weight[rows])


@dataclass(frozen=True, slots=True)
class NetOptions:
    """How a net is trained."""

    width: int = 32
    epochs: int = 15
    rate: float = 2e-3
    decay: float = 1e-4
    dropout: float = 0.2


def ensemble(examples: Examples, seeds: Sequence[int], options: NetOptions | None = None) -> Net:
    """Nets from several seeds, averaged: side by side in one hidden layer, which is the same."""
    nets = [_net(examples, np.random.default_rng(seed), options or NetOptions()) for seed in seeds]
    return Net(
        np.hstack([net.hidden for net in nets]),
        np.hstack([net.hidden_bias for net in nets]),
        np.hstack([net.out for net in nets]) / len(nets),
        float(np.mean([net.bias for net in nets])),
    )


def _net(examples: Examples, rng: np.random.Generator, options: NetOptions) -> Net:
    """Source 0 is the reference; each other source has an offset of its own while training (its models are weaker or
    stronger than the reference's), which is dropped afterwards."""
    rows, columns = examples.inputs.shape
    base = _log_odds(examples)
    weights = [
        rng.normal(0.0, columns**-0.5, (columns, options.width)),
        np.zeros(options.width),
        rng.normal(0.0, options.width**-0.5, options.width),
        base[:1].copy(),
        base - base[0],
    ]
    optimizer = _Adam(weights, steps=options.epochs * -(-rows // _BATCH), rate=options.rate)
    for _ in range(options.epochs):
        order = rng.permutation(rows)
        for start in range(0, rows, _BATCH):
            batch = examples_at(examples, order[start : start + _BATCH])
            optimizer.step(_net_gradients(weights, batch, rng, options))
    return Net(weights[0], weights[1], weights[2], float(weights[3][0]))


def _log_odds(examples: Examples) -> Matrix:
    """Of each source: where bias and offsets start, because steps as small as the weights need would not get there."""
    count = np.bincount(examples.source)
    share = (np.bincount(examples.source, weights=examples.labels) + 1.0) / (count + 2.0)
    return np.asarray(np.log(share / (1.0 - share)))


def examples_at(examples: Examples, rows: npt.NDArray[np.int64]) -> Examples:
    """The rows with these numbers, in this order."""
    return Examples(examples.inputs[rows], examples.labels[rows], examples.source[rows], examples.weight[rows])


def _net_gradients(
    weights: list[Matrix], batch: Examples, rng: np.random.Generator, options: NetOptions
) -> list[Matrix]:
    hidden, hidden_bias, out, bias, offsets = weights
    keep = 1.0 - options.dropout
    inputs = batch.inputs * (rng.random(batch.inputs.shape) < keep) / keep
    active = inputs @ hidden + hidden_bias
    kept = (active > 0.0) * (rng.random(active.shape) < keep) / keep
    values = active * kept
    logits = values @ out + bias + offsets[batch.source] * (batch.source > 0)
    error = (sigmoid(logits) - batch.labels) * batch.weight / len(batch.labels)
    back = np.outer(error, out) * kept
    by_source = np.bincount(batch.source, weights=error, minlength=len(offsets))
    by_source[0] = 0.0
    return [
        inputs.T @ back + options.decay * hidden,
        back.sum(axis=0),
        values.T @ error + options.decay * out,
        error.sum(keepdims=True),
        by_source,
    ]


class _Adam:
    """Adam with a rate that falls to zero; changes the arrays that it was given."""

    def __init__(self, weights: list[Matrix], steps: int, rate: float) -> None:
        self._weights = weights
        self._first = [np.zeros_like(weight) for weight in weights]
        self._second = [np.zeros_like(weight) for weight in weights]
        self._steps = steps
        self._rate = rate
        self._done = 0

    def step(self, gradients: Sequence[Matrix]) -> None:
        first_decay, second_decay, epsilon = _ADAM
        rate = self._rate * (1.0 - self._done / self._steps)
        self._done += 1
        for weight, first, second, gradient in zip(self._weights, self._first, self._second, gradients, strict=True):
            first *= first_decay
            first += (1.0 - first_decay) * gradient
            second *= second_decay
            second += (1.0 - second_decay) * gradient * gradient
            mean = first / (1.0 - first_decay**self._done)
            spread = np.sqrt(second / (1.0 - second_decay**self._done))
            weight -= rate * mean / (spread + epsilon)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """inputs @ weights + bias: a column of logits, or of quantiles, for each output."""

    weights: Matrix
    bias: Matrix

    def __call__(self, inputs: Matrix) -> Matrix:
        return np.asarray(inputs @ self.weights + self.bias)


def softmax_regression(
    inputs: Matrix,
    labels: npt.NDArray[np.int64],
    weight: Matrix,
    classes: int,
    *,
    epochs: int = 300,
    decay: float = 3e-3,
) -> Linear:
    """Linear logits of `classes` classes, by full gradients."""
    weights = [np.zeros((inputs.shape[1], classes)), np.zeros(classes)]
    target = np.eye(classes)[labels]
    scale = weight / weight.sum()
    optimizer = _Adam(weights, steps=epochs, rate=0.02)
    for _ in range(epochs):
        error = (softmax(inputs @ weights[0] + weights[1]) - target) * scale[:, None]
        optimizer.step([inputs.T @ error + decay * weights[0], error.sum(axis=0)])
    return Linear(weights[0], weights[1])


def quantile_regression(
    inputs: Matrix, values: Matrix, quantiles: Sequence[float], *, epochs: int = 600, decay: float = 5e-2
) -> Linear:
    """Linear quantiles of `values`, one column each, by the pinball loss."""
    levels = np.asarray(quantiles)
    weights = [np.zeros((inputs.shape[1], len(levels))), np.quantile(values, levels)]
    optimizer = _Adam(weights, steps=epochs, rate=0.01)
    for _ in range(epochs):
        over = values[:, None] > inputs @ weights[0] + weights[1]
        error = np.where(over, -levels, 1.0 - levels) / len(values)
        optimizer.step([inputs.T @ error + decay * weights[0], error.sum(axis=0)])
    return Linear(weights[0], weights[1])


def calibration(logits: Matrix, labels: Matrix, *, steps: int = 50) -> tuple[float, float]:
    """Slope and shift of Platt scaling, by Newton's method with halved steps; the labels may be soft."""
    design = np.column_stack([logits, np.ones_like(logits)])
    parameters = np.zeros(2)
    for _ in range(steps):
        probability = sigmoid(design @ parameters)
        curvature = (design * (probability * (1.0 - probability) + 1e-9)[:, None]).T @ design
        step = np.linalg.solve(curvature, design.T @ (labels - probability))
        while np.abs(step).max() > 1e-9 and _log_loss(design @ (parameters + step), labels) > _log_loss(
            design @ parameters, labels
        ):
            step /= 2.0
        parameters = parameters + step
    return float(parameters[0]), float(parameters[1])


def _log_loss(logits: Matrix, labels: Matrix) -> float:
    return float((np.logaddexp(0.0, logits) - labels * logits).mean())


def centroids(embeddings: Matrix, count: int, seed: int, *, rounds: int = 25) -> Matrix:
    """Spherical k-means: `count` unit vectors that the embeddings gather around."""
    rng = np.random.default_rng(seed)
    centres = embeddings[rng.choice(len(embeddings), count, replace=False)]
    for _ in range(rounds):
        nearest = (embeddings @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, embeddings)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0.0, sums / np.maximum(lengths, 1e-12), centres)
    return np.asarray(centres)


def sigmoid(logits: Matrix) -> Matrix:
    """1 / (1 + e^-x)."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))))


def softmax(logits: Matrix) -> Matrix:
    """Rows that sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
