"""The composition root of the classifier."""

from __future__ import annotations

from farthing.classifier.v1.classifier_service_pb2_grpc import add_ClassifierServiceServicer_to_server
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.observer import TelemetryObserver
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads
from farthing_classifier.app.analyzing import Analyzer, ModelMismatch
from farthing_classifier.config import ClassifierSettings
from farthing_classifier.handler import NAME, ClassifierHandler
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import ServerError, Service


async def build(process: Process[ClassifierSettings]) -> None:
    """Everything, from the model files to the server."""
    analyzer = _analyzer(process)
    process.on_close(analyzer.close)
    await analyzer.warm_up()
    process.log.info("models loaded", version=analyzer.model.version, backend=analyzer.model.encoder.execution_provider)
    process.serve(Service(NAME, add_ClassifierServiceServicer_to_server, ClassifierHandler(analyzer)))


def _analyzer(process: Process[ClassifierSettings]) -> Analyzer:
    settings = process.settings
    try:
        return Analyzer(
            OnnxEncoder.load(settings.encoder_dir, window_tokens=settings.window_tokens, threads=settings.threads),
            OnnxHeads.load(settings.heads_dir or SHIPPED),
            TelemetryObserver(process.telemetry),
            workers=settings.workers,
            max_waiting=settings.max_waiting,
        )
    except (ModelFilesError, ModelMismatch) as error:
        raise ServerError(str(error)) from None


def main() -> int:
    """Serve until asked to stop; returns the exit code."""
    return run("classifier", ClassifierSettings, build)
