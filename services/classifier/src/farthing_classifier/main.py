"""The composition root of the classifier."""

from __future__ import annotations

from farthing.classifier.v1.classifier_service_pb2_grpc import add_ClassifierServiceServicer_to_server
from farthing_classifier.adapters import calibration_file
from farthing_classifier.adapters.judge_observer import TelemetryJudgeObserver
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.observer import TelemetryObserver
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads
from farthing_classifier.adapters.onnx_judge import OnnxJudge
from farthing_classifier.app.analyzing import Analyzer, ModelMismatch
from farthing_classifier.app.judging import AnswerJudge
from farthing_classifier.config import ClassifierSettings
from farthing_classifier.domain.drift import Window
from farthing_classifier.handler import NAME, ClassifierHandler
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import ServerError, Service


async def build(process: Process[ClassifierSettings]) -> None:
    """Everything, from the model files to the server."""
    try:
        analyzer = _analyzer(process)
        judge = _judge(process)
    except (ModelFilesError, ModelMismatch) as error:
        raise ServerError(str(error)) from None
    process.on_close(analyzer.close)
    process.on_close(judge.close)
    await analyzer.warm_up()
    process.log.info("models loaded", version=analyzer.model.version, backend=analyzer.model.encoder.execution_provider)
    process.serve(Service(NAME, add_ClassifierServiceServicer_to_server, ClassifierHandler(analyzer, judge)))


def _analyzer(process: Process[ClassifierSettings]) -> Analyzer:
    settings = process.settings
    encoder = OnnxEncoder.load(
        settings.encoder_dir,
        window_tokens=settings.window_tokens,
        threads=settings.threads,
        device=settings.device,
    )
    folder = settings.heads_dir or SHIPPED
    heads = OnnxHeads.load(folder)
    calibration = settings.calibration_file or folder / calibration_file.CALIBRATION_FILE
    return Analyzer(
        encoder,
        heads,
        calibration_file.load(calibration, heads.info.version),
        TelemetryObserver(process.telemetry),
        lanes=settings.workers,
        max_batch=settings.max_batch,
        max_waiting=settings.max_waiting,
        drift=Window(
            heads.info.reference,
            size=settings.drift_window,
            min_prompts=settings.drift_min_prompts,
            limit=settings.drift_limit,
        ),
    )


def _judge(process: Process[ClassifierSettings]) -> AnswerJudge:
    return AnswerJudge(
        OnnxJudge.load(),
        TelemetryJudgeObserver(process.telemetry),
        workers=process.settings.workers,
        max_waiting=process.settings.max_waiting,
    )


def main() -> int:
    """Serve until asked to stop; returns the exit code."""
    return run("classifier", ClassifierSettings, build)
