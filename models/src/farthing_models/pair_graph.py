"""The verifier as an ONNX graph of plain operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_models.pair_fitting import CLIP, Nets

_OPSET = 17
_IR_VERSION = 9


def build(nets: Nets) -> bytes:
    """The graph's bytes: features [n, f] → probability [n]."""
    constants = {
        "mean": nets.mean,
        "deviation": nets.deviation,
        "low": np.asarray(-CLIP),
        "high": np.asarray(CLIP),
        "hidden": nets.hidden,
        "hidden_bias": nets.hidden_bias,
        "out": nets.out,
        "bias": np.asarray(nets.bias),
    }
    steps = (
        ("Sub", ("features", "mean"), "centred"),
        ("Div", ("centred", "deviation"), "scaled"),
        ("Clip", ("scaled", "low", "high"), "clipped"),
        ("MatMul", ("clipped", "hidden"), "mixed"),
        ("Add", ("mixed", "hidden_bias"), "shifted"),
        ("Tanh", ("shifted",), "active"),
        ("MatMul", ("active", "out"), "summed"),
        ("Add", ("summed", "bias"), "logit"),
        ("Sigmoid", ("logit",), "probability"),
    )
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output]) for operator, inputs, output in steps],
        "verifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(nets.mean)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="farthing")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
