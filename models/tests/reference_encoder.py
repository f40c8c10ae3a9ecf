"""The encoder written out in NumPy, operator by operator: what the ONNX graph is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from farthing_models.encoder_weights import FloatArray

Tensors = dict[str, FloatArray]


def embed(tensors: Tensors, ids: Sequence[int]) -> FloatArray:
    """The unit vector of one text's tokens."""
    hidden = tensors["embeddings.word_embeddings.weight"][list(ids)]
    hidden = hidden + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = _norm(tensors, "embeddings", hidden + tensors["embeddings.token_type_embeddings.weight"][0])
    for layer in range(6):
        hidden = _layer(tensors, f"encoder.layer.{layer}", hidden)
    mean = hidden.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _layer(tensors: Tensors, name: str, hidden: FloatArray) -> FloatArray:
    query, key, value = (
        _linear(tensors, f"{name}.attention.self.{part}", hidden).reshape(len(hidden), 12, 32).transpose(1, 0, 2)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(32)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    context = (shares @ value).transpose(1, 0, 2).reshape(len(hidden), 384)
    attended = _linear(tensors, f"{name}.attention.output.dense", context)
    hidden = _norm(tensors, f"{name}.attention.output", hidden + attended)
    wide = _gelu(_linear(tensors, f"{name}.intermediate.dense", hidden))
    return _norm(tensors, f"{name}.output", hidden + _linear(tensors, f"{name}.output.dense", wide))


def _linear(tensors: Tensors, name: str, values: FloatArray) -> FloatArray:
    return np.asarray(values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"])


def _norm(tensors: Tensors, name: str, values: FloatArray) -> FloatArray:
    centred = values - values.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return np.asarray(scaled * tensors[f"{name}.LayerNorm.weight"] + tensors[f"{name}.LayerNorm.bias"])


def _gelu(values: FloatArray) -> FloatArray:
    return np.asarray(values * 0.5 * (1.0 + np.vectorize(math.erf)(values / math.sqrt(2.0))), dtype=np.float32)
