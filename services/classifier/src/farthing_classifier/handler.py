"""ClassifierService over gRPC: messages to values, and back."""

from __future__ import annotations

from typing import Any, Final

from farthing.classifier.v1 import classifier_service_pb2 as pb
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceServicer
from farthing.type.v1 import model_pb2
from farthing_classifier.app.analyzing import Analyzer
from farthing_classifier.app.judging import Answered, AnswerJudge, Verdict
from farthing_classifier.domain.analysis import Analysis, Flags, Stage, Task
from farthing_classifier.domain.drift import Drift
from farthing_classifier.domain.judging.examination import Finding, Finish
from farthing_classifier.domain.prompt import Message, Role
from farthing_classifier.domain.tiers import Outlook, Tier
from farthing_kit.errors import InvalidArgument

NAME: Final = "farthing.classifier.v1.ClassifierService"

_ROLES: Final = {
    model_pb2.CHAT_ROLE_SYSTEM: Role.SYSTEM,
    model_pb2.CHAT_ROLE_USER: Role.USER,
    model_pb2.CHAT_ROLE_ASSISTANT: Role.ASSISTANT,
}
_TASKS: Final = {task: model_pb2.Task.Value(f"TASK_{task.name}") for task in Task}
_FLAGS: Final = {
    Flags.TRUNCATED: pb.ANALYSIS_FLAG_TRUNCATED,
    Flags.NOT_TEXT: pb.ANALYSIS_FLAG_NOT_TEXT,
    Flags.UNFAMILIAR_LANGUAGE: pb.ANALYSIS_FLAG_UNFAMILIAR_LANGUAGE,
    Flags.OUT_OF_DOMAIN: pb.ANALYSIS_FLAG_OUT_OF_DOMAIN,
    Flags.NO_SIGNAL: pb.ANALYSIS_FLAG_NO_SIGNAL,
    Flags.ADDRESSES_ROUTER: pb.ANALYSIS_FLAG_ADDRESSES_ROUTER,
}
_STAGES: Final = {Stage.LEXICAL: pb.ANALYSIS_STAGE_LEXICAL, Stage.ENCODER: pb.ANALYSIS_STAGE_ENCODER}
_FINISHES: Final = {model_pb2.FinishReason.Value(f"FINISH_REASON_{finish.name}"): finish for finish in Finish}
_FINDINGS: Final = {finding: pb.AnswerFinding.Value(f"ANSWER_FINDING_{finding.name}") for finding in Finding}
_TASK_OF: Final = {number: task for task, number in _TASKS.items()}
_TIERS: Final = {tier: model_pb2.Tier.Value(f"TIER_{tier.name}") for tier in Tier}


class ClassifierHandler(ClassifierServiceServicer):
    """Validate, translate, call the use case, translate back."""

    def __init__(self, analyzer: Analyzer, judge: AnswerJudge) -> None:
        self._analyzer = analyzer
        self._judge = judge

    async def Analyze(self, request: pb.AnalyzeRequest, context: Any) -> pb.AnalyzeResponse:
        messages = [_message(index, message) for index, message in enumerate(request.messages)]
        return _response(await self._analyzer.analyze(messages, embedding=not request.omit_embedding))

    async def Judge(self, request: pb.JudgeRequest, context: Any) -> pb.JudgeResponse:
        messages = [_message(index, message) for index, message in enumerate(request.messages)]
        return _verdict(await self._judge.judge(_answered(request, messages)))

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: Any) -> pb.GetModelInfoResponse:
        model = self._analyzer.model
        return pb.GetModelInfoResponse(
            model_version=model.version,
            encoder=model.encoder.name,
            encoder_sha256=model.encoder.sha256,
            heads_sha256=model.heads.sha256,
            embedding_dimension=model.encoder.dimension,
            window_tokens=model.encoder.window_tokens,
            execution_provider=model.encoder.execution_provider,
            calibration_version=model.calibration_version,
            judge_version=self._judge.version,
            drift=_drift(self._analyzer.drift),
        )


def _message(index: int, message: model_pb2.ChatMessage) -> Message:
    if message.role not in _ROLES:
        raise InvalidArgument.field(f"messages[{index}].role", "must be SYSTEM, USER or ASSISTANT")
    return Message(_ROLES[message.role], message.content)


def _answered(request: pb.JudgeRequest, messages: list[Message]) -> Answered:
    """What a newer client names and this service does not know counts as not named."""
    return Answered(
        messages,
        request.answer,
        _FINISHES.get(request.finish_reason, Finish.UNSPECIFIED),
        _TASK_OF.get(request.task, Task.UNSPECIFIED),
        _share("prior_success", request.prior_success) if request.HasField("prior_success") else None,
        request.mean_token_logprob if request.HasField("mean_token_logprob") else None,
        request.reference_answer,
    )


def _share(field: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise InvalidArgument.field(field, "must be from 0 to 1")
    return value


def _verdict(verdict: Verdict) -> pb.JudgeResponse:
    return pb.JudgeResponse(
        acceptable=verdict.acceptable,
        findings=[_FINDINGS[finding] for finding in verdict.findings],
        model_version=verdict.model_version,
    )


def _response(analysis: Analysis) -> pb.AnalyzeResponse:
    return pb.AnalyzeResponse(
        complexity=analysis.complexity,
        task=_TASKS[analysis.task],
        task_probabilities=[
            pb.TaskProbability(task=_TASKS[task], probability=probability) for task, probability in analysis.tasks
        ],
        expected_output=pb.OutputLength(
            p10_tokens=analysis.expected_output.p10_tokens,
            p50_tokens=analysis.expected_output.p50_tokens,
            p90_tokens=analysis.expected_output.p90_tokens,
        ),
        uncertainty=analysis.uncertainty,
        embedding=analysis.embedding,
        prompt_tokens=analysis.prompt_tokens,
        flags=[flag for kind, flag in _FLAGS.items() if kind in analysis.flags],
        model_version=analysis.model_version,
        tiers=[_outlook(outlook) for outlook in analysis.tiers],
        stage=_STAGES[analysis.stage],
        calibration_version=analysis.calibration_version,
    )


def _outlook(outlook: Outlook) -> pb.TierOutlook:
    return pb.TierOutlook(tier=_TIERS[outlook.tier], success=outlook.success, gain=outlook.gain, score=outlook.score)


def _drift(drift: Drift) -> pb.Drift:
    return pb.Drift(
        prompts=drift.prompts,
        complexity_index=drift.complexity_index,
        familiarity_index=drift.familiarity_index,
        task_index=drift.task_index,
        drifted=drift.drifted,
    )
