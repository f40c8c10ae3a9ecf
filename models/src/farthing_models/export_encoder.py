"""Makes the encoder that the classifier runs: `python -m farthing_models.export_encoder --out build/models/encoder`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from farthing_models import encoder_weights
from farthing_models.gate import MIN_COSINE, GateError

ENCODER_NAME: Final = "all-MiniLM-L6-v2 INT8"
RECIPE_VERSION: Final = 1
MODEL_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
MANIFEST_FILE: Final = "manifest.json"
MAX_POSITIONS: Final = 512


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 when a valid encoder lies in --out afterwards."""
    options = _parser().parse_args(arguments)
    out: Path = options.out
    if not options.force and is_current(out):
        print(f"encoder: up to date in {out}")
        return 0
    try:
        manifest = export(out, options.weights)
    except (encoder_weights.WeightsError, GateError, OSError) as error:
        print(f"encoder: {error}", file=sys.stderr)
        return 1
    gate = manifest["gate"]
    print(
        f"encoder: wrote {out} (cosine to FP32 over {gate['prompts']} prompts: "
        f"minimum {gate['min_cosine']:.4f}, mean {gate['mean_cosine']:.4f})"
    )
    return 0


def export(out: Path, weights_folder: Path) -> Mapping[str, Any]:
    """Build, quantize, check and write; returns the manifest. The same inputs give the same bytes."""
    # Here and not above: an encoder that is up to date is recognised without loading these libraries.
    from farthing_models import encoder_graph, encoder_int8

    weights = encoder_weights.load(weights_folder)
    original = encoder_graph.build(weights)
    quantized = encoder_int8.quantize(original)
    report = encoder_int8.compare(
        original.SerializeToString(deterministic=True),
        quantized,
        weights.tokenizer_json,
        encoder_int8.gate_prompts(),
    )
    report.require()
    manifest = {
        "name": ENCODER_NAME,
        "recipe": _recipe(),
        "files": {
            MODEL_FILE: {"sha256": _sha256(quantized), "bytes": len(quantized)},
            TOKENIZER_FILE: {"sha256": _sha256(weights.tokenizer_json), "bytes": len(weights.tokenizer_json)},
        },
        "dimension": encoder_graph.DIMENSION,
        "max_positions": MAX_POSITIONS,
        "gate": {
            "prompts": report.prompts,
            "min_cosine": round(report.min_cosine, 4),
            "mean_cosine": round(report.mean_cosine, 4),
            "required_min_cosine": MIN_COSINE,
        },
    }
    _write(out, {MODEL_FILE: quantized, TOKENIZER_FILE: weights.tokenizer_json}, manifest)
    return manifest


def is_current(out: Path) -> bool:
    """Whether `out` holds what this recipe would write, whole."""
    try:
        manifest = json.loads((out / MANIFEST_FILE).read_text("utf-8"))
        recorded = manifest["files"]
        whole = all(_sha256((out / name).read_bytes()) == recorded[name]["sha256"] for name in recorded)
        return bool(whole and {MODEL_FILE, TOKENIZER_FILE} <= recorded.keys() and manifest["recipe"] == _recipe())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _recipe() -> dict[str, Any]:
    """Everything that decides the bytes."""
    return {
        "version": RECIPE_VERSION,
        "source": f"{encoder_weights.PACKAGE}=={encoder_weights.PACKAGE_VERSION}",
        "safetensors_sha256": encoder_weights.SAFETENSORS_SHA256,
        "libraries": {name: version(name) for name in ("numpy", "onnx", "onnxruntime")},
    }


def _write(out: Path, contents: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Each file whole or not at all, the manifest last: an interrupted run is never taken for a finished one."""
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    manifest_json = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    for name, blob in [*contents.items(), (MANIFEST_FILE, manifest_json)]:
        partial = out / f".{name}.{os.getpid()}"
        partial.write_bytes(blob)
        partial.replace(out / name)


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.export_encoder", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/models/encoder"), help="folder to write")
    parser.add_argument(
        "--weights", type=Path, default=Path("build/encoder-weights"), help="folder for the unpacked weights"
    )
    parser.add_argument("--force", action="store_true", help="build again even if the folder is up to date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
