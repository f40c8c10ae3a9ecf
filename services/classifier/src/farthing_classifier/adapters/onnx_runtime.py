"""Sessions of ONNX Runtime, made from bytes."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from enum import Enum
from typing import Final

import onnxruntime as ort

from farthing_classifier.adapters.model_files import ModelFilesError

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

_LOG_ERRORS_ONLY: Final = 3


class Device(Enum):
    """Where the encoder runs. AUTO takes a GPU where this build of ONNX Runtime and the machine have one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def session(model: bytes, threads: int, device: Device = Device.CPU) -> ort.InferenceSession:
    """A session over a model that is whole in its bytes: one that points to data in other files is refused."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Threads that spin for the next call burn a core that other services of the machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Made from bytes, a model would find its outside data in the working directory. No file lies under this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    providers = _providers(device)
    try:
        made = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises many types of its own, and they quote the model's content
        raise ModelFilesError(f"ONNX Runtime refuses the model: {type(error).__name__}") from None
    if (
        device is Device.CUDA and provider_of(made) != CUDA
    ):  # without a driver, ONNX Runtime falls back and says nothing
        raise ModelFilesError(
            "ONNX Runtime finds no GPU that it can use: set DEVICE to auto or cpu, or look at the driver"
        )
    return made


def provider_of(loaded: ort.InferenceSession) -> str:
    """Where a session runs."""
    return str(loaded.get_providers()[0])


def _providers(device: Device) -> list[str]:
    has_cuda = CUDA in ort.get_available_providers()
    if device is Device.CUDA and not has_cuda:
        raise ModelFilesError(
            "this build of ONNX Runtime knows no GPU: install farthing-classifier[gpu] instead of [cpu], "
            "or set DEVICE to cpu"
        )
    if not has_cuda or device is Device.CPU:
        return [CPU]
    with redirect_stdout(sys.stderr):  # it prints what it does not find; stdout belongs to who started the service
        ort.preload_dlls()  # CUDA and cuDNN come as packages
    return [CUDA, CPU]
