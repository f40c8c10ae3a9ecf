"""The heads as one ONNX graph of plain operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_models.fitting import EMBEDDING_SCALE, LEXICAL_CLIP, Linear, Matrix, Net, Scaler

OPSET: Final = 17
IR_VERSION: Final = 9


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Natural logarithms of an answer's tokens, p50 and p90.

    `base` has two columns and a row for each task, `per_word` what each unit of log(1 + words) adds. `solved` is
    fitted, and adds to the row of the task numbered `solved_task`.
    """

    base: Matrix
    per_word: Matrix
    solved: Linear
    solved_task: int
    words_feature: int


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """The nearest centre's cosine, from `strange` (0) to `familiar` (1)."""

    centres: Matrix
    strange: float
    familiar: float


@dataclass(frozen=True, slots=True, eq=False)
class FittedHeads:
    """Everything that the graph computes with."""

    scaler: Scaler
    complexity: Net
    tasks: Linear
    lengths: Lengths
    familiarity: Familiarity


def build(heads: FittedHeads) -> bytes:
    """The graph's bytes.

    embedding [n, 384] and lexical [n, features] → complexity [n], task [n, tasks], log_tokens [n, 2], familiarity [n].
    """
    graph = _Graph()
    inputs = graph.inputs(heads.scaler)
    graph.complexity(inputs, heads.complexity)
    graph.tasks(inputs, heads.tasks)
    graph.lengths(inputs, heads.lengths)
    graph.familiarity(heads.familiarity)
    return graph.model(
        dimension=heads.familiarity.centres.shape[1],
        features=len(heads.scaler.mean),
        tasks=len(heads.tasks.bias),
    )


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def inputs(self, scaler: Scaler) -> str:
        centred = self._op("Sub", ["lexical", self._floats("lexical_mean", scaler.mean)])
        scaled = self._op("Div", [centred, self._floats("lexical_deviation", scaler.deviation)])
        limits = [self._scalar("clip_low", -LEXICAL_CLIP), self._scalar("clip_high", LEXICAL_CLIP)]
        clipped = self._op("Clip", [scaled, *limits])
        embedding = self._op("Mul", ["embedding", self._scalar("embedding_scale", EMBEDDING_SCALE)])
        return self._op("Concat", [embedding, clipped], axis=1)

    def complexity(self, inputs: str, net: Net) -> None:
        hidden = self._op("Relu", [self._linear("hidden", inputs, Linear(net.hidden, net.hidden_bias))])
        logit = self._linear("logit", hidden, Linear(net.out[:, None], np.array([net.bias])))
        self._op("Sigmoid", [self._op("Squeeze", [logit, self._integers("logit_axis", [1])])], "complexity")

    def tasks(self, inputs: str, linear: Linear) -> None:
        self._op("Softmax", [self._linear("tasks", inputs, linear)], "task", axis=1)

    def lengths(self, inputs: str, lengths: Lengths) -> None:
        base = self._op("MatMul", ["task", self._floats("length_base", lengths.base)])
        slope = self._op("MatMul", ["task", self._floats("length_per_word", lengths.per_word[:, None])])
        words = self._op("Gather", ["lexical", self._integers("words", [lengths.words_feature])], axis=1)
        solved = self._linear("solved", inputs, lengths.solved)
        share = self._op("Gather", ["task", self._integers("solved_task", [lengths.solved_task])], axis=1)
        total = self._op("Add", [base, self._op("Mul", [slope, words])])
        self._op("Add", [total, self._op("Mul", [share, solved])], "log_tokens")

    def familiarity(self, familiarity: Familiarity) -> None:
        cosines = self._op("MatMul", ["embedding", self._floats("centres", familiarity.centres.T)])
        nearest = self._op("ReduceMax", [cosines], axes=[1], keepdims=0)
        above = self._op("Sub", [nearest, self._scalar("strange", familiarity.strange)])
        share = self._op("Div", [above, self._scalar("range", familiarity.familiar - familiarity.strange)])
        self._op("Clip", [share, self._scalar("none", 0.0), self._scalar("all", 1.0)], "familiarity")

    def model(self, dimension: int, features: int, tasks: int) -> bytes:
        inputs = [_value("embedding", ["n", dimension]), _value("lexical", ["n", features])]
        outputs = [
            _value("complexity", ["n"]),
            _value("task", ["n", tasks]),
            _value("log_tokens", ["n", 2]),
            _value("familiarity", ["n"]),
        ]
        graph = helper.make_graph(self._nodes, "farthing-heads", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="farthing")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _linear(self, name: str, inputs: str, linear: Linear) -> str:
        weights = self._floats(f"{name}_weights", linear.weights)
        return self._op("Gemm", [inputs, weights, self._floats(f"{name}_bias", linear.bias)])

    def _op(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def _floats(self, name: str, values: npt.ArrayLike) -> str:
        return self._constant(name, np.asarray(values, dtype=np.float32))

    def _scalar(self, name: str, value: float) -> str:
        return self._constant(name, np.asarray(value, dtype=np.float32))

    def _integers(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.asarray(values, dtype=np.int64))

    def _constant(self, name: str, array: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name))
        return name


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
