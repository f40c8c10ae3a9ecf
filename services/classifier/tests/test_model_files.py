"""Missing, damaged and foreign model files: one clear line each, never a half-loaded model."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from farthing_classifier.adapters import onnx_runtime
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads


@pytest.fixture
def encoder_copy(encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))


@pytest.fixture
def heads_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "heads"))


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


def test_heads_for_other_features_are_refused(heads_copy: Path) -> None:
    manifest = json.loads((heads_copy / "heads.json").read_text())
    manifest["lexical_features"] = manifest["lexical_features"][1:]
    (heads_copy / "heads.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFilesError, match="lexical features"):
        OnnxHeads.load(heads_copy)


def test_damaged_heads_are_refused(heads_copy: Path) -> None:
    (heads_copy / "heads.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelFilesError, match="is not the file"):
        OnnxHeads.load(heads_copy)


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
