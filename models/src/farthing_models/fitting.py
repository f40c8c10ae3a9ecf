"""The small models behind the heads, fitted with NumPy alone: seeded, and fast on one core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

EMBEDDING_SCALE: Final = 15.0
LEXICAL_CLIP: Final = 4.0
_ADAM: Final = (0.9, 0.999, 1e-8)


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Lexical features to zero mean and unit variance."""

    mean: Matrix
    deviation: Matrix

    @classmethod
    def fit(cls, lexical: Matrix) -> Scaler:
        """Mean and deviation of each column."""
        return cls(lexical.mean(axis=0), lexical.std(axis=0) + 1e-3)

    def scaled(self, lexical: Matrix) -> Matrix:
        """What the heads read of the surface."""
        return np.clip((lexical - self.mean) / self.deviation, -LEXICAL_CLIP, LEXICAL_CLIP)

    def inputs(self, embeddings: Matrix, lexical: Matrix) -> Matrix:
        """What the second stage reads: the embedding and the lexical features at comparable scales."""
        return np.hstack([embeddings * EMBEDDING_SCALE, self.scaled(lexical)])


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
    inputs = inputs.astype(np.float32)
    weights: list[Any] = [np.zeros((inputs.shape[1], classes), np.float32), np.zeros(classes, np.float32)]
    target = np.eye(classes, dtype=np.float32)[labels]
    scale = (weight / weight.sum()).astype(np.float32)
    optimizer = _Adam(weights, steps=epochs, rate=0.02)
    for _ in range(epochs):
        error = (softmax(inputs @ weights[0] + weights[1]) - target) * scale[:, None]
        optimizer.step([inputs.T @ error + decay * weights[0], error.sum(axis=0)])
    return Linear(weights[0].astype(np.float64), weights[1].astype(np.float64))


def bag_softmax_regression(
    bags: Any,
    inputs: Matrix,
    labels: npt.NDArray[np.int64],
    weight: Matrix,
    classes: int,
    *,
    epochs: int = 60,
    decay: tuple[float, float] = (3e-6, 1e-4),
) -> tuple[Matrix, Linear]:
    """The same with a sparse matrix beside the inputs; `decay` is that of the bags' weights and of the inputs'."""
    # Single precision: this is the longest step of the training.
    bags, inputs = bags.astype(np.float32), inputs.astype(np.float32)
    shapes = ((bags.shape[1], classes), (inputs.shape[1], classes), (classes,))
    weights: list[Any] = [np.zeros(shape, dtype=np.float32) for shape in shapes]
    target = np.eye(classes, dtype=np.float32)[labels]
    scale = (weight / weight.sum()).astype(np.float32)
    transposed = bags.T.tocsr()
    optimizer = _Adam(weights, steps=epochs, rate=0.05)
    for _ in range(epochs):
        error = (softmax(bags @ weights[0] + inputs @ weights[1] + weights[2]) - target) * scale[:, None]
        gradients = [transposed @ error + decay[0] * weights[0], inputs.T @ error + decay[1] * weights[1]]
        optimizer.step([*gradients, error.sum(axis=0)])
    table, linear, bias = [each.astype(np.float64) for each in weights]
    return table, Linear(linear, bias)


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


def ridge(inputs: Matrix, values: Matrix, weight: Matrix, penalty: float) -> Linear:
    """Least squares with a penalty on the weights, not on the bias; `values` has a column for each output."""
    share = weight / weight.sum()
    middle, level = share @ inputs, share @ values
    centred = inputs - middle
    scaled = centred.T * weight
    weights = np.linalg.solve(scaled @ centred + penalty * np.eye(inputs.shape[1]), scaled @ (values - level))
    return Linear(weights, level - middle @ weights)


def sparse_ridge(inputs: Any, values: Matrix, weight: Matrix, penalty: float, *, steps: int = 25) -> Matrix:
    """The same for a sparse matrix and without a bias, by conjugate gradients: a column for each output."""
    transposed = inputs.T.tocsr()
    columns = [_conjugate_gradients(inputs, transposed, column, weight, penalty, steps) for column in values.T]
    return np.column_stack(columns)


def _conjugate_gradients(
    inputs: Any, transposed: Any, values: Matrix, weight: Matrix, penalty: float, steps: int
) -> Matrix:
    solution = np.zeros(inputs.shape[1])
    residual = transposed @ (weight * values)
    direction, size = residual.copy(), float(residual @ residual)
    for _ in range(steps):
        if size < 1e-12:
            break
        image = transposed @ (weight * (inputs @ direction)) + penalty * direction
        step = size / float(direction @ image)
        solution += step * direction
        residual -= step * image
        size, before = float(residual @ residual), size
        direction = residual + (size / before) * direction
    return solution


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
