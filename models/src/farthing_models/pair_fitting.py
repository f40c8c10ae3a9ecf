"""The verifier's small nets, fitted with NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

WIDTH: Final = 48
NETS: Final = 4
CLIP: Final = 4.0
_EPOCHS: Final = 40
_BATCH: Final = 256
_RATE: Final = 3e-3
_DECAY: Final = 3e-4
_ADAM: Final = (0.9, 0.999, 1e-8)


@dataclass(frozen=True, slots=True, eq=False)
class Nets:
    """Nets of one hidden layer side by side, whose mean is a logit; features are scaled and clipped first."""

    mean: Matrix
    deviation: Matrix
    hidden: Matrix
    hidden_bias: Matrix
    out: Matrix
    bias: float

    def logits(self, features: Matrix) -> Matrix:
        """One number a row."""
        scaled = np.clip((features - self.mean) / self.deviation, -CLIP, CLIP)
        return np.asarray(np.tanh(scaled @ self.hidden + self.hidden_bias) @ self.out + self.bias)

    def calibrated(self, slope: float, shift: float) -> Nets:
        """The nets whose logits are slope · logit + shift."""
        return Nets(
            self.mean, self.deviation, self.hidden, self.hidden_bias, self.out * slope, self.bias * slope + shift
        )


def fit(features: Matrix, same: Matrix, weight: Matrix, seed: int) -> Nets:
    """Trains NETS nets from different starts, and averages them."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    scaled = np.clip((features - mean) / deviation, -CLIP, CLIP)
    fitted = [_fit_one(scaled, same, weight / weight.mean(), np.random.default_rng(seed + at)) for at in range(NETS)]
    return Nets(
        mean,
        deviation,
        np.hstack([net[0] for net in fitted]),
        np.hstack([net[1] for net in fitted]),
        np.hstack([net[2] for net in fitted]) / NETS,
        float(np.mean([net[3][0] for net in fitted])),
    )


def _fit_one(inputs: Matrix, same: Matrix, weight: Matrix, rng: np.random.Generator) -> list[Matrix]:
    width = inputs.shape[1]
    net = [rng.normal(0, width**-0.5, (width, WIDTH)), np.zeros(WIDTH), rng.normal(0, 0.1, WIDTH), np.zeros(1)]
    moments = [[np.zeros_like(part), np.zeros_like(part)] for part in net]
    steps = _EPOCHS * -(-len(same) // _BATCH)
    step = 0
    for _ in range(_EPOCHS):
        order = rng.permutation(len(same))
        for start in range(0, len(same), _BATCH):
            rows = order[start : start + _BATCH]
            step += 1
            _update(net, moments, _gradients(net, inputs[rows], same[rows], weight[rows]), step, steps)
    return net


def _gradients(net: list[Matrix], inputs: Matrix, same: Matrix, weight: Matrix) -> list[Matrix]:
    active = np.tanh(inputs @ net[0] + net[1])
    error = (sigmoid(active @ net[2] + net[3]) - same) * weight / len(same)
    back = error[:, None] * net[2] * (1 - active**2)
    return [
        inputs.T @ back + _DECAY * net[0],
        back.sum(axis=0),
        active.T @ error + _DECAY * net[2],
        error.sum(keepdims=True),
    ]


def _update(net: list[Matrix], moments: list[list[Matrix]], gradients: list[Matrix], step: int, steps: int) -> None:
    first, second, tiny = _ADAM
    rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
    for part, moment, gradient in zip(net, moments, gradients, strict=True):
        moment[0] = first * moment[0] + (1 - first) * gradient
        moment[1] = second * moment[1] + (1 - second) * gradient**2
        part -= rate * (moment[0] / (1 - first**step)) / (np.sqrt(moment[1] / (1 - second**step)) + tiny)


def platt(logits: Matrix, same: Matrix, weight: Matrix) -> tuple[float, float]:
    """Slope and shift that make probabilities of logits, by Newton's method."""
    design = np.column_stack([logits, np.ones_like(logits)])
    found = np.asarray([1.0, 0.0])
    for _ in range(50):
        probability = sigmoid(design @ found)
        curvature = (design * (weight * probability * (1 - probability) + 1e-9)[:, None]).T @ design
        found = found + np.clip(np.linalg.solve(curvature, design.T @ (weight * (same - probability))), -1, 1)
    return float(found[0]), float(found[1])


def sigmoid(logits: Matrix) -> Matrix:
    """1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))))
