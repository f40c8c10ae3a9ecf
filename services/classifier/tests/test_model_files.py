"""Missing, damaged and foreign model files: one clear line each, never a half-loaded model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from farthing_classifier.adapters import calibration_file, onnx_runtime
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import OnnxHeads
from farthing_classifier.domain.analysis import Limits
from farthing_classifier.domain.drift import Histogram
from services.classifier.tests import tiny_heads


@pytest.fixture
def encoder_copy(encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))


@pytest.fixture
def heads_copy(tmp_path: Path) -> Path:
    return tiny_heads.write(tmp_path / "heads", "e" * 64)


def load(folder: Path, window_tokens: int = 128) -> OnnxEncoder:
    return OnnxEncoder.load(folder, window_tokens=window_tokens, threads=1)


def test_a_missing_encoder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFilesError, match=r"is missing: run `python -m farthing_models.export_encoder --out "
    ) as info:
        load(tmp_path / "nowhere")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
def test_a_damaged_file_is_refused(encoder_copy: Path, name: str) -> None:
    with (encoder_copy / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFilesError, match=f"{name} is not the file that its manifest names"):
        load(encoder_copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', "\x00"])
def test_a_damaged_manifest_is_refused(encoder_copy: Path, content: str) -> None:
    (encoder_copy / "manifest.json").write_text(content)
    with pytest.raises(ModelFilesError, match=r"manifest\.json"):
        load(encoder_copy)


@pytest.mark.parametrize("window_tokens", [0, 7, 513])
def test_a_window_beyond_the_encoder_is_refused(encoder_dir: Path, window_tokens: int) -> None:
    with pytest.raises(ModelFilesError, match="window"):
        load(encoder_dir, window_tokens)


@pytest.mark.parametrize("changed", [{"lexical_features": ["chars"]}, {"ngrams": {"buckets": 8}}])
def test_heads_for_other_features_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(ModelFilesError, match="lexical features"):
        OnnxHeads.load(tiny_heads.write(tmp_path / "heads", "e" * 64, **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {}},
        {"tasks": ["dreaming"]},
        {"limits": None},
        {"doubt_limit": "high"},
        {"drift": {}},
        {"drift": {"complexity": {"edges": [0.5], "shares": [0.9, 0.9]}, "familiarity": {}, "tasks": {}}},
    ],
)
def test_what_is_no_manifest_of_the_heads_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(ModelFilesError, match="is not a manifest of the heads"):
        OnnxHeads.load(tiny_heads.write(tmp_path / "heads", "e" * 64, **changed))


@pytest.mark.parametrize("name", ["stage0.onnx", "stage1.onnx"])
def test_damaged_heads_are_refused(heads_copy: Path, name: str) -> None:
    (heads_copy / name).write_bytes(b"not a model")
    with pytest.raises(ModelFilesError, match=f"{name} is not the file"):
        OnnxHeads.load(heads_copy)


def test_what_the_heads_learnt_beside_their_weights_is_read(heads_copy: Path) -> None:
    info = OnnxHeads.load(heads_copy).info
    assert info.limits == Limits(doubt=0.3, out_of_domain=0.05, no_signal=0.01)
    assert info.reference.complexity == Histogram((0.5,), (0.5, 0.5))
    assert len(info.sha256) == 64


def test_the_calibration_beside_the_heads_is_read(heads_copy: Path) -> None:
    loaded = calibration_file.load(heads_copy / "calibration.json", "tiny-heads")
    assert loaded.version == "tiny-calibration"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (tiny_heads.calibration(heads="others"), "belongs to the heads others, but tiny-heads is loaded"),
        (tiny_heads.calibration(tiers={}), "tiers must hold exactly small, medium, large"),
        ({}, "version must be"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused_with_a_remedy(
    tmp_path: Path, content: dict[str, Any], complaint: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFilesError, match=rf"mine\.json: .*{complaint}.*recalibrate") as info:
        calibration_file.load(path, "tiny-heads")
    assert "\n" not in str(info.value)


def test_a_missing_calibration_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"is missing: .*farthing models recalibrate"):
        calibration_file.load(tmp_path / "none.json", "tiny-heads")


def test_a_gpu_that_this_build_does_not_know_is_refused(encoder_dir: Path) -> None:
    if onnx_runtime.CUDA in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime knows GPUs")
    with pytest.raises(ModelFilesError, match=r"install farthing-classifier\[gpu\]"):
        OnnxEncoder.load(encoder_dir, window_tokens=128, threads=1, device=onnx_runtime.Device.CUDA)
    chosen = OnnxEncoder.load(encoder_dir, window_tokens=128, threads=1, device=onnx_runtime.Device.AUTO)
    assert chosen.info.execution_provider == onnx_runtime.CPU


def test_bytes_that_are_no_model_are_refused_without_their_content() -> None:
    with pytest.raises(ModelFilesError, match=r"refuses the model: \w+$"):
        onnx_runtime.session(b"canary canary canary", threads=1)


def test_a_model_with_data_in_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelFilesError, match="refuses the model"):
        onnx_runtime.session(Path("model.onnx").read_bytes(), threads=1)
