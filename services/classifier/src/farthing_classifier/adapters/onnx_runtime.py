"""Sessions of ONNX Runtime, made from bytes."""

from __future__ import annotations

import os
from typing import Final

import onnxruntime as ort

from farthing_classifier.adapters.model_files import ModelFilesError

# Best first; the first one that this build of ONNX Runtime has is taken.
PROVIDERS: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")

_LOG_ERRORS_ONLY: Final = 3


def session(model: bytes, threads: int) -> ort.InferenceSession:
    """A session over a model that is whole in its bytes: one that points to data in other files is refused."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Threads that spin for the next call burn a core that other services of the machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Made from bytes, a model would find its outside data in the working directory. No file lies under this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    available = set(ort.get_available_providers())
    providers = [provider for provider in PROVIDERS if provider in available]
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises many types of its own, and they quote the model's content
        raise ModelFilesError(f"ONNX Runtime refuses the model: {type(error).__name__}") from None


def provider_of(loaded: ort.InferenceSession) -> str:
    """Where a session runs."""
    return str(loaded.get_providers()[0])
