"""INT8 for the encoder, and its cosine to FP32 on real prompts."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from farthing_models.encoder_weights import FloatArray
from farthing_models.gate import GateReport

GATE_WINDOW_TOKENS: Final = 128

# Kept in FP32. Tried one by one on 300 prompts: these two maps lose the most in INT8 (minimum cosine 0.981 with them,
# 0.988 without), and cost 0.2 ms and 3.5 MB to keep. Per-tensor scales instead of per-channel ones: 0.92.
FP32_OUTPUTS: Final = ("narrow0", "narrow2")


def quantize(model: onnx.ModelProto) -> bytes:
    """The graph with 8-bit weights (a scale per channel) and activations quantized as they come."""
    spared = [node.name for node in model.graph.node if node.output[0] in FP32_OUTPUTS]
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=spared,
            # Shape inference does not know the fused operators: without this, quantizing what follows them fails.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return target.read_bytes()


def compare(original: bytes, quantized: bytes, tokenizer_json: bytes, prompts: Sequence[str]) -> GateReport:
    """Embed every prompt with both graphs."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(GATE_WINDOW_TOKENS)
    rows = [tokenizer.encode(prompt).ids for prompt in prompts]
    cosines = (_embed(original, rows) * _embed(quantized, rows)).sum(axis=1)
    return GateReport(
        prompts=len(rows), min_cosine=float(np.float64(cosines.min())), mean_cosine=float(np.float64(cosines.mean()))
    )


def gate_prompts() -> list[str]:
    """The real prompts that ship with this package (gate_prompts.jsonl names the source and licence of each)."""
    lines = (files("farthing_models") / "gate_prompts.jsonl").read_text("utf-8").splitlines()
    return [str(json.loads(line)["text"]) for line in lines]


def _embed(model: bytes, rows: Sequence[Sequence[int]]) -> FloatArray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    vectors = []
    for row in rows:
        ids = np.asarray([row], dtype=np.int32)
        vectors.append(session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0])
    return np.asarray(vectors, dtype=np.float32)


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantizer advises a pre-processing that cannot read fused operators: do not pass that on."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
