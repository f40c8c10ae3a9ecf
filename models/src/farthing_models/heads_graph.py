"""Both stages of the heads as ONNX graphs of plain operators and tree ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_models.fitting import EMBEDDING_SCALE, LEXICAL_CLIP, Linear, Matrix, Scaler
from farthing_models.forest import Forest
from farthing_models.heads import (
    ENCODER_SHARE,
    GAIN_SOFTNESS,
    LEAST,
    MEDIUM_SHARE,
    MOST,
    QUANTILES,
    SUCCESS_RANGE,
    Estimate,
    Lengths,
    Stage0,
    Stage1,
)

OPSET: Final = 17
TREES_OPSET: Final = 3
IR_VERSION: Final = 9

_TREES: Final = "ai.onnx.ml"


def build_stage0(stage: Stage0) -> bytes:
    """ngrams, int64 [k], and lexical [1, F] of the whole text, rest_ngrams [r] and rest_lexical [1, F] of the rest of
    it → tier_scores [1, 3], task [1, T], log_tokens [1, 3], familiarity [1], doubt [1]."""
    graph = _Graph()
    _, _, success = graph.estimate("rest_", stage.success)
    kinds, scaled, gain = graph.estimate("", stage.gain)
    worth = graph.op("Concat", [success, gain], axis=1)
    graph.tier_scores(worth)
    graph.tasks_and_lengths(kinds, stage.task_of_kind, stage.lengths, scaled)
    root = graph.root_of_count("ngrams")
    common = graph.bag_sum("common", stage.common[:, None], "ngrams", "ngrams", root)
    familiarity = graph.familiarity(graph.op("Div", [common, root]), stage.familiarity)
    best = graph.op("ReduceMax", [kinds], axes=[1], keepdims=1)
    graph.doubt(graph.op("Concat", [best, worth, familiarity], axis=1), stage.doubt)
    inputs = [
        helper.make_tensor_value_info("ngrams", TensorProto.INT64, ["k"]),
        _value("lexical", [1, len(stage.gain.scaler.mean)]),
        helper.make_tensor_value_info("rest_ngrams", TensorProto.INT64, ["r"]),
        _value("rest_lexical", [1, len(stage.success.scaler.mean)]),
    ]
    return graph.model("farthing-stage0", inputs, [*_outputs(1, stage.task_of_kind.shape[1]), _value("doubt", [1])])


def build_stage1(stage: Stage1) -> bytes:
    """embedding [n, 384], lexical [n, F] and stage0_scores [n, 3] → tier_scores [n, 3], task [n, T], log_tokens [n, 3],
    familiarity [n]."""
    graph = _Graph()
    scaled = graph.scaled(stage.scaler)
    embedding = graph.op("Mul", ["embedding", graph.scalar("embedding_scale", EMBEDDING_SCALE)])
    inputs = graph.op("Concat", [embedding, scaled], axis=1)
    kinds = graph.softmax(graph.linear("kind", inputs, stage.kind))
    level = graph.op("MatMul", [kinds, graph.floats("levels", stage.levels[:, None])])
    own = graph.op("Add", [level, graph.linear("residual", "embedding", stage.residual)])
    odds = graph.op("Sigmoid", ["stage0_scores"])
    small = graph.columns(odds, [0])
    before = graph.unbent(graph.op("Sub", [graph.columns(odds, [2]), small]))
    shares = [
        graph.op("Mul", [before, graph.scalar("before_share", 1.0 - ENCODER_SHARE)]),
        graph.op("Mul", [own, graph.scalar("own_share", ENCODER_SHARE)]),
    ]
    graph.tier_scores(graph.op("Concat", [small, graph.op("Add", shares)], axis=1))
    graph.tasks_and_lengths(kinds, stage.task_of_kind, stage.lengths, scaled)
    cosines = graph.op("MatMul", ["embedding", graph.floats("centres", stage.centres.T)])
    graph.familiarity(graph.op("ReduceMax", [cosines], axes=[1], keepdims=1), stage.familiarity)
    named = [
        _value("embedding", ["n", stage.centres.shape[1]]),
        _value("lexical", ["n", len(stage.scaler.mean)]),
        _value("stage0_scores", ["n", 3]),
    ]
    return graph.model("farthing-stage1", named, _outputs("n", stage.task_of_kind.shape[1]))


def _outputs(rows: int | str, tasks: int) -> list[onnx.ValueInfoProto]:
    return [
        _value("tier_scores", [rows, 3]),
        _value("task", [rows, tasks]),
        _value("log_tokens", [rows, len(QUANTILES)]),
        _value("familiarity", [rows]),
    ]


class _Graph:
    """Collects nodes and constants; every method appends one piece and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def estimate(self, view: str, estimate: Estimate) -> tuple[str, str, str]:
        """Of one view of a text: the probabilities of the kinds, the scaled surface, and the value as a column."""
        scaled, ngrams = self.scaled(estimate.scaler, view), f"{view}ngrams"
        root = self.root_of_count(ngrams)
        own = self.bag_sum(f"{view}table", estimate.table[:, None], ngrams, ngrams, root)
        coarse = self.bag_sum(f"{view}kind_table", estimate.kind_table, ngrams, self.folded(view, estimate), root)
        kinds = self.softmax(self.op("Add", [coarse, self.linear(f"{view}kind", scaled, estimate.kind_surface)]))
        level = self.op("MatMul", [kinds, self.floats(f"{view}levels", estimate.levels[:, None])])
        trees = self.trees(f"{view}trees", f"{view}lexical", [estimate.forest])
        return kinds, scaled, self.op("Add", [self.op("Add", [level, own]), trees])

    def scaled(self, scaler: Scaler, view: str = "") -> str:
        centred = self.op("Sub", [f"{view}lexical", self.floats(f"{view}lexical_mean", scaler.mean)])
        scaled = self.op("Div", [centred, self.floats(f"{view}lexical_deviation", scaler.deviation)])
        limits = [self.scalar("clip_low", -LEXICAL_CLIP), self.scalar("clip_high", LEXICAL_CLIP)]
        return self.op("Clip", [scaled, *limits])

    def root_of_count(self, ngrams: str) -> str:
        count = self.op("Cast", [self.op("Shape", [ngrams])], to=TensorProto.FLOAT)
        return self.op("Sqrt", [count])

    def folded(self, view: str, estimate: Estimate) -> str:
        return self.op("Mod", [f"{view}ngrams", self.integers("kind_buckets", [len(estimate.kind_table)])])

    def bag_sum(self, name: str, table: Matrix, ngrams: str, buckets: str, root: str) -> str:
        """The sum of the buckets' rows over the root of their number. Bucket 0 means nothing, whatever its row says."""
        rows = self.op("Gather", [self.floats(name, table), buckets], axis=0)
        counts = self.op("Cast", [self.op("Sign", [ngrams])], to=TensorProto.FLOAT)
        column = self.op("Unsqueeze", [counts, self.integers("axis_columns", [1])])
        total = self.op("ReduceSum", [self.op("Mul", [rows, column]), self.integers("axis_rows", [0])], keepdims=1)
        return self.op("Div", [total, root])

    def softmax(self, logits: str) -> str:
        return self.op("Softmax", [logits], axis=1)

    def trees(self, name: str, inputs: str, forests: Sequence[Forest]) -> str:
        """One column for each forest."""
        return self.op("TreeEnsembleRegressor", [inputs], domain=_TREES, name=name, **_tree_attributes(forests))

    def tier_scores(self, worth: str) -> None:
        low, high = (self.scalar(f"success_{number}", limit) for number, limit in enumerate(SUCCESS_RANGE))
        small = self.op("Clip", [self.columns(worth, [0]), low, high])
        soft = self.scalar("gain_softness", GAIN_SOFTNESS)
        gain = self.op("Mul", [self._softplus(self.op("Div", [self.columns(worth, [1]), soft])), soft])
        large = self.op("Min", [self.op("Add", [small, gain]), self.scalar("most", MOST)])
        added = self.op("Mul", [self.op("Sub", [large, small]), self.scalar("medium_share", MEDIUM_SHARE)])
        odds = self.op("Concat", [small, self.op("Add", [small, added]), large], axis=1)
        rest = self.op("Sub", [self.scalar("one", 1.0), odds])
        self.op("Log", [self.op("Div", [odds, rest])], "tier_scores")

    def unbent(self, gain: str) -> str:
        """A gain as it was before it was made positive."""
        soft = self.scalar("gain_softness", GAIN_SOFTNESS)
        power = self.op("Sub", [self.op("Exp", [self.op("Div", [gain, soft])]), self.scalar("one", 1.0)])
        return self.op("Mul", [self.op("Log", [self.op("Max", [power, self.scalar("least", LEAST)])]), soft])

    def tasks_and_lengths(self, kinds: str, task_of_kind: Matrix, lengths: Lengths, scaled: str) -> None:
        self.op("MatMul", [kinds, self.floats("task_of_kind", task_of_kind)], "task")
        base = self.op("MatMul", ["task", self.floats("length_base", lengths.base)])
        slope = self.op("MatMul", ["task", self.floats("length_per_word", lengths.per_word[:, None])])
        words = self.columns("lexical", [lengths.words_feature])
        solved = self.linear("solved", scaled, lengths.solved)
        share = self.columns("task", [lengths.solved_task])
        total = self.op("Add", [base, self.op("Mul", [slope, words])])
        self.op("Add", [total, self.op("Mul", [share, solved])], "log_tokens")

    def familiarity(self, column: str, ends: tuple[float, float]) -> str:
        """From a column [n, 1]; returns it scaled, and makes the output [n]."""
        low, high = ends
        above = self.op("Sub", [column, self.scalar("strange", low)])
        share = self.op("Div", [above, self.scalar("familiar_range", high - low)])
        limits = [self.scalar("none", 0.0), self.scalar("all", 1.0)]
        scaled = self.op("Clip", [share, *limits])
        self.op("Squeeze", [scaled, self.integers("axis_last", [1])], "familiarity")
        return scaled

    def doubt(self, inputs: str, linear: Linear) -> None:
        limits = [self.scalar("none", 0.0), self.scalar("all", 1.0)]
        doubt = self.op("Clip", [self.linear("doubt_of", inputs, linear), *limits])
        self.op("Squeeze", [doubt, self.integers("axis_last", [1])], "doubt")

    def columns(self, source: str, numbers: list[int]) -> str:
        return self.op("Gather", [source, self.integers(f"columns_{'_'.join(map(str, numbers))}", numbers)], axis=1)

    def _softplus(self, value: str) -> str:
        """log(1 + e^x) that does not overflow: max(x, 0) + log(1 + e^-|x|)."""
        small = self.op("Exp", [self.op("Neg", [self.op("Abs", [value])])])
        logarithm = self.op("Log", [self.op("Add", [small, self.scalar("one", 1.0)])])
        return self.op("Add", [self.op("Relu", [value]), logarithm])

    def linear(self, name: str, inputs: str, linear: Linear) -> str:
        weights = self.floats(f"{name}_weights", linear.weights)
        return self.op("Gemm", [inputs, weights, self.floats(f"{name}_bias", linear.bias)])

    def op(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        attributes = {"name": output, **attributes}
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def floats(self, name: str, values: npt.ArrayLike) -> str:
        return self._constant(name, np.asarray(values, dtype=np.float32))

    def scalar(self, name: str, value: float) -> str:
        return self._constant(name, np.asarray(value, dtype=np.float32))

    def integers(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.asarray(values, dtype=np.int64))

    def model(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> bytes:
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_TREES, TREES_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="farthing")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _constant(self, name: str, array: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        """A constant that several pieces share is kept once."""
        made = numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name)
        known = self._constants.setdefault(name, made)
        if known.raw_data != made.raw_data:
            raise ValueError(f"two constants are called {name}")
        return name


def _tree_attributes(forests: Sequence[Forest]) -> dict[str, Any]:
    attributes: dict[str, Any] = {"n_targets": len(forests), "aggregate_function": "SUM", "post_transform": "NONE"}
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    before = 0
    for target, forest in enumerate(forests):
        first = np.flatnonzero(np.diff(forest.tree, prepend=-1))[forest.tree]
        leaf = forest.feature < 0
        nodes["nodes_treeids"] += (forest.tree + before).tolist()
        nodes["nodes_nodeids"] += (np.arange(len(first)) - first).tolist()
        nodes["nodes_featureids"] += np.maximum(forest.feature, 0).tolist()
        nodes["nodes_values"] += forest.threshold.tolist()
        nodes["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        nodes["nodes_truenodeids"] += np.where(leaf, 0, forest.left - first).tolist()
        nodes["nodes_falsenodeids"] += np.where(leaf, 0, forest.right - first).tolist()
        leaves["target_treeids"] += (forest.tree + before)[leaf].tolist()
        leaves["target_nodeids"] += (np.arange(len(first)) - first)[leaf].tolist()
        leaves["target_ids"] += [target] * int(leaf.sum())
        leaves["target_weights"] += forest.value[leaf].tolist()
        before += int(forest.tree.max()) + 1
    return attributes | nodes | leaves


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
