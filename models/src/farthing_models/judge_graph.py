"""The judge as one ONNX graph of plain operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_models.judge_fitting import CLIP, FittedJudge

OPSET: Final = 17
IR_VERSION: Final = 9


def build(judge: FittedJudge) -> bytes:
    """The graph's bytes.

    numbers [n, features], with_numbers [n, 1] (1 where they count), evidence [n, findings], prior [n, 1] (log-odds)
    → log_odds [n, 1], acceptable [n, 1].
    """
    graph = _Graph()
    centred = graph.op("Sub", ["numbers", graph.floats("mean", judge.mean)])
    scaled = graph.op("Div", [centred, graph.floats("deviation", judge.deviation)])
    clipped = graph.op("Clip", [scaled, graph.floats("low", -CLIP), graph.floats("high", CLIP)])
    weights = graph.floats("weights", judge.weights[:, None])
    learnt = graph.op("Gemm", [clipped, weights, graph.floats("bias", [judge.bias])])
    weighed = graph.op("Mul", ["prior", graph.floats("prior_weight", judge.prior_weight)])
    worked_out = graph.op("Add", [learnt, weighed])
    # From the prior to what the numbers say, where there are any.
    change = graph.op("Mul", [graph.op("Sub", [worked_out, "prior"]), "with_numbers"])
    found = graph.op("MatMul", ["evidence", graph.floats("evidence_weights", judge.evidence_weights[:, None])])
    graph.op("Sum", ["prior", change, found], "log_odds")
    graph.op("Sigmoid", ["log_odds"], "acceptable")
    return graph.model(len(judge.mean), len(judge.evidence_weights))


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def floats(self, name: str, values: npt.ArrayLike) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def model(self, features: int, findings: int) -> bytes:
        inputs = [
            _value("numbers", ["n", features]),
            _value("with_numbers", ["n", 1]),
            _value("evidence", ["n", findings]),
            _value("prior", ["n", 1]),
        ]
        outputs = [_value("log_odds", ["n", 1]), _value("acceptable", ["n", 1])]
        graph = helper.make_graph(self._nodes, "farthing-judge", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="farthing")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
