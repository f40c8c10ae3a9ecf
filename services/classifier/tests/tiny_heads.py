"""Heads of a few numbers, in the files and with the tensors of the trained ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from farthing_classifier.domain import lexical, ngrams
from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.tiers import TIERS

TASKS = [task.value for task in Task if task is not Task.UNSPECIFIED]
VERSION = "tiny-heads"


def write(folder: Path, encoder_sha256: str, **changed: Any) -> Path:
    """Both graphs, their manifest and a calibration; `changed` replaces entries of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {"stage0.onnx": _first(), "stage1.onnx": _second()}
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    files = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in graphs.items()}
    manifest = {"files": files, "encoder_sha256": encoder_sha256, **_learnt(), **changed}
    (folder / "heads.json").write_text(json.dumps(manifest))
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    return folder


def calibration(**changed: Any) -> dict[str, Any]:
    curve = {"scores": [-4.0, 4.0], "probabilities": [0.1, 0.9]}
    tiers = {tier.value: curve for tier in TIERS}
    return {"version": "tiny-calibration", "heads": VERSION, "tiers": tiers} | changed


def _learnt() -> dict[str, Any]:
    halves = {"edges": [0.0, 0.5, 1.0], "shares": [0.5, 0.5]}
    return {
        "version": VERSION,
        "tasks": TASKS,
        "lexical_features": list(lexical.NAMES),
        "ngrams": {"buckets": ngrams.BUCKETS},
        "doubt_limit": 0.3,
        "limits": {"out_of_domain": 0.05, "no_signal": 0.01},
        "drift": {
            "complexity": halves,
            "familiarity": halves,
            "tasks": dict.fromkeys(TASKS, 1.0 / len(TASKS)),
        },
    }


def _first() -> bytes:
    """Bucket 0 speaks for the small tier, each other for the large one; doubt grows with the n-grams."""
    weights = np.tile(np.array([-0.01, 0.0, 0.01], np.float32), (ngrams.BUCKETS, 1))
    weights[0] = [1.0, 0.0, 0.0]
    constants = {
        "weights": weights,
        "one": np.array([1.0], np.float32),
        "share": np.array([0.02], np.float32),
        "axis": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["weights", "ngrams"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["tier_scores"], keepdims=1),
        helper.make_node("Shape", ["ngrams"], ["size"]),
        helper.make_node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "share"], ["raised"]),
        helper.make_node("Min", ["raised", "one"], ["doubt"]),
        *_common("lexical"),
    ]
    inputs = [
        _value("ngrams", ["k"], TensorProto.INT64),
        _value("lexical", ["n", len(lexical.NAMES)]),
        _value("rest_ngrams", ["r"], TensorProto.INT64),
        _value("rest_lexical", ["n", len(lexical.NAMES)]),
    ]
    return _model(nodes, inputs, [*_outputs(), _value("doubt", [1])], constants)


def _second() -> bytes:
    """The scores of the first stage, and the embedding's first number for the large tier."""
    constants = {
        "pick": np.array([[0.0, 0.0, 1.0]] + [[0.0, 0.0, 0.0]] * 383, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["embedding", "pick"], ["moved"]),
        helper.make_node("Add", ["stage0_scores", "moved"], ["tier_scores"]),
        *_common("lexical"),
    ]
    inputs = [
        _value("embedding", ["n", 384]),
        _value("lexical", ["n", len(lexical.NAMES)]),
        _value("stage0_scores", ["n", 3]),
    ]
    return _model(nodes, inputs, _outputs(), constants)


def _common(lexical_input: str) -> list[onnx.NodeProto]:
    """Tasks, lengths and familiarity from the lexical features: constant but for the first task's share."""
    return [
        helper.make_node("MatMul", [lexical_input, "to_tasks"], ["task_scores"]),
        helper.make_node("Softmax", ["task_scores"], ["task"], axis=-1),
        helper.make_node("MatMul", [lexical_input, "to_lengths"], ["no_lengths"]),
        helper.make_node("Add", ["no_lengths", "lengths"], ["log_tokens"]),
        helper.make_node("MatMul", [lexical_input, "to_familiarity"], ["no_familiarity"]),
        helper.make_node("Add", ["no_familiarity", "familiar"], ["familiarity"]),
    ]


def _outputs() -> list[onnx.ValueInfoProto]:
    return [
        _value("tier_scores", ["n", 3]),
        _value("task", ["n", len(TASKS)]),
        _value("log_tokens", ["n", 3]),
        _value("familiarity", ["n"]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
) -> bytes:
    features = len(lexical.NAMES)
    to_tasks = np.zeros((features, len(TASKS)), np.float32)
    to_tasks[lexical.NAMES.index("code"), TASKS.index("code")] = 5.0
    shared = {
        "to_tasks": to_tasks,
        "to_lengths": np.zeros((features, 3), np.float32),
        "lengths": np.array([[3.0, 4.0, 5.0]], np.float32),
        "to_familiarity": np.zeros((features,), np.float32),
        "familiar": np.array([0.5], np.float32),
    }
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in {**constants, **shared}.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
