"""Boosted trees over the surface of a text: fitted with LightGBM, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
import numpy.typing as npt

from farthing_models.fitting import Matrix

TREES: Final = 60
OPTIONS: Final[dict[str, Any]] = {
    "objective": "l2",
    "num_leaves": 8,
    "learning_rate": 0.05,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 20.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """One output: the sum of what the trees say. Every array has one entry for each node, tree after tree.

    A leaf has feature -1 and a value; any other node sends a text left when its feature is at most the threshold.
    Children are numbered from the beginning of the arrays.
    """

    tree: Integers
    feature: Integers
    threshold: Matrix
    left: Integers
    right: Integers
    value: Matrix

    def __call__(self, inputs: Matrix) -> Matrix:
        """One number a row."""
        total = np.zeros(len(inputs))
        rows = np.arange(len(inputs))
        for root in np.flatnonzero(np.diff(self.tree, prepend=-1)):
            at = np.full(len(inputs), root)
            while (inner := self.feature[at] >= 0).any():
                goes_left = inputs[rows, np.maximum(self.feature[at], 0)] <= self.threshold[at]
                at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)
            total += self.value[at]
        return total


def fit(inputs: Matrix, values: Matrix, weight: Matrix, seed: int, *, trees: int = TREES) -> Forest:
    """Small trees, strongly regularised; the same seed gives the same trees."""
    data = lightgbm.Dataset(inputs, values, weight=weight)
    booster = lightgbm.train({**OPTIONS, "seed": seed}, data, trees)
    nodes: list[tuple[int, int, float, int, int, float]] = []
    for number, tree in enumerate(booster.dump_model()["tree_info"]):
        nodes.extend(_nodes(tree["tree_structure"], number, len(nodes)))
    columns = [np.asarray(column) for column in zip(*nodes, strict=True)]
    tree_of, feature, threshold, left, right, value = columns
    # The graph reads thresholds at single precision: so does the reference.
    return Forest(tree_of, feature, threshold.astype(np.float32).astype(np.float64), left, right, value)


def _nodes(structure: Mapping[str, Any], tree: int, first: int) -> Iterator[tuple[int, int, float, int, int, float]]:
    """The nodes of one tree, breadth first; the root is number `first`."""
    queue = [structure]
    told = first + 1
    for node in queue:
        if "leaf_value" in node:
            yield tree, -1, 0.0, 0, 0, float(node["leaf_value"])
            continue
        queue += [node["left_child"], node["right_child"]]
        yield tree, int(node["split_feature"]), float(node["threshold"]), told, told + 1, 0.0
        told += 2
