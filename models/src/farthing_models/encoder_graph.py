"""The encoder as an ONNX graph of fused operators, built by hand from the published weights."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_models.encoder_weights import EncoderWeights, FloatArray

LAYERS: Final = 6
HEADS: Final = 12
DIMENSION: Final = 384
LAYER_NORM_EPSILON: Final = 1e-12
OPSET: Final = 17
IR_VERSION: Final = 9
GRAPH_VERSION: Final = 1

_FUSED: Final = "com.microsoft"


def build(weights: EncoderWeights) -> onnx.ModelProto:
    """FP32 graph: input_ids and attention_mask, int32 [batch, tokens] → embedding, float [batch, 384], unit length.

    The fused operators are what makes INT8 pay: the same graph in plain ONNX operators is no faster quantized than this
    one in FP32.
    """
    graph = _Graph(weights.tensors)
    hidden = graph.embeddings()
    for layer in range(LAYERS):
        hidden = graph.transformer_layer(hidden, layer)
    graph.pooled(hidden)
    return graph.model()


class _Graph:
    """Collects nodes and weights; every method appends one piece and returns the name of its output."""

    def __init__(self, tensors: dict[str, FloatArray]) -> None:
        self._tensors = tensors
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def embeddings(self) -> str:
        inputs = [
            "input_ids",
            "",  # no segments: the second input is optional, and MiniLM's single-segment row is added to the positions
            self._weight("word", self._tensors["embeddings.word_embeddings.weight"]),
            self._weight("position", self._positions_with_segment()),
            "",
            self._weight("embed_gamma", self._tensors["embeddings.LayerNorm.weight"]),
            self._weight("embed_beta", self._tensors["embeddings.LayerNorm.bias"]),
        ]
        self._node(
            "EmbedLayerNormalization", inputs, ["embedded", "unused_mask_index"], _FUSED, epsilon=LAYER_NORM_EPSILON
        )
        return "embedded"

    def transformer_layer(self, hidden: str, layer: int) -> str:
        attended = self._attention(hidden, layer)
        widened = self._feed_forward(attended, layer)
        return self._skip_norm(f"layer{layer}_out", widened, attended, f"encoder.layer.{layer}.output")

    def pooled(self, hidden: str) -> None:
        """Mean over the real tokens, then unit length: what the encoder's own recipe does outside of its model."""
        self._node("Cast", ["attention_mask"], ["mask_float"], to=TensorProto.FLOAT)
        self._node("Unsqueeze", ["mask_float", self._ints("axis_last", [2])], ["mask_column"])
        self._node("Mul", [hidden, "mask_column"], ["masked"])
        self._node("ReduceSum", ["masked", self._ints("axis_tokens", [1])], ["summed"], keepdims=0)
        # The mean's divisor cancels out in the normalisation: the sum has the same direction.
        self._node("LpNormalization", ["summed"], ["embedding"], axis=-1, p=2)

    def model(self) -> onnx.ModelProto:
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION])
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", ids, [out], self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="farthing")

    def _attention(self, hidden: str, layer: int) -> str:
        prefix = f"encoder.layer.{layer}.attention.self"
        parts = [f"{prefix}.{part}" for part in ("query", "key", "value")]
        inputs = [
            hidden,
            self._weight(f"qkv{layer}", np.hstack([self._tensors[f"{part}.weight"].T for part in parts])),
            self._weight(f"qkv{layer}_bias", np.hstack([self._tensors[f"{part}.bias"] for part in parts])),
            "attention_mask",
        ]
        self._node("Attention", inputs, [f"context{layer}"], _FUSED, num_heads=HEADS)
        output = f"encoder.layer.{layer}.attention.output"
        projected = self._matmul(f"project{layer}", f"context{layer}", f"{output}.dense.weight")
        return self._skip_norm(f"layer{layer}_attended", projected, hidden, output)

    def _feed_forward(self, hidden: str, layer: int) -> str:
        inner = f"encoder.layer.{layer}.intermediate.dense"
        wide = self._matmul(f"wide{layer}", hidden, f"{inner}.weight")
        bias = self._weight(f"wide{layer}_bias", self._tensors[f"{inner}.bias"])
        self._node("BiasGelu", [wide, bias], [f"gelu{layer}"], _FUSED)
        return self._matmul(f"narrow{layer}", f"gelu{layer}", f"encoder.layer.{layer}.output.dense.weight")

    def _skip_norm(self, output: str, value: str, skip: str, prefix: str) -> str:
        """Adds `skip` and the bias of the linear map that made `value`, then normalises."""
        inputs = [
            value,
            skip,
            self._weight(f"{output}_gamma", self._tensors[f"{prefix}.LayerNorm.weight"]),
            self._weight(f"{output}_beta", self._tensors[f"{prefix}.LayerNorm.bias"]),
            self._weight(f"{output}_bias", self._tensors[f"{prefix}.dense.bias"]),
        ]
        self._node("SkipLayerNormalization", inputs, [output], _FUSED, epsilon=LAYER_NORM_EPSILON)
        return output

    def _matmul(self, output: str, value: str, weight: str) -> str:
        self._node("MatMul", [value, self._weight(f"{output}_weight", self._tensors[weight].T)], [output])
        return output

    def _positions_with_segment(self) -> FloatArray:
        segment = self._tensors["embeddings.token_type_embeddings.weight"][0]
        return np.asarray(self._tensors["embeddings.position_embeddings.weight"] + segment, dtype=np.float32)

    def _weight(self, name: str, values: FloatArray) -> str:
        array = np.ascontiguousarray(values, dtype=np.float32)
        self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def _ints(self, name: str, values: list[int]) -> str:
        self._initializers.append(numpy_helper.from_array(np.asarray(values, dtype=np.int64), name))
        return name

    def _node(self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> None:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
