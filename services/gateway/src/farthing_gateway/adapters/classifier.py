"""The classifier over gRPC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from farthing.classifier.v1.classifier_service_pb2 import (
    AnalyzeRequest,
    AnalyzeResponse,
    AnswerFinding,
    GetModelInfoRequest,
    JudgeRequest,
    TierOutlook,
)
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from farthing.type.v1.model_pb2 import FinishReason
from farthing.type.v1.model_pb2 import Task as TaskMessage
from farthing_gateway.adapters.wire import known, messages_to_messages, tier_to_message
from farthing_gateway.domain.analysis import Analysis, AnalysisFlag, AnalysisStage, Outlook
from farthing_gateway.domain.judge import Judged, Opinion
from farthing_gateway.domain.model import Task, Tier
from farthing_gateway.domain.options import TIERS
from farthing_gateway.domain.prompt import Message
from farthing_kit.errors import FarthingError
from farthing_kit.interceptors.client import Channel

RETRIED: Final = ("farthing.classifier.v1.ClassifierService",)
# Versions of the model whose encoder is remembered.
VERSIONS: Final = 16
_FLAGS: Final = frozenset(AnalysisFlag)


class GrpcClassifier:
    """The ports Classifier and Judge."""

    def __init__(self, channel: Channel, *, timeout_s: float, judge_timeout_s: float) -> None:
        self._stub = ClassifierServiceStub(channel)
        self._timeout_s = timeout_s
        self._judge_timeout_s = judge_timeout_s
        self._encoders: dict[str, bytes] = {}

    async def analyze(self, messages: tuple[Message, ...], *, embedding: bool) -> Analysis:
        request = AnalyzeRequest(messages=messages_to_messages(messages), omit_embedding=not embedding)
        response = await self._stub.Analyze(request, timeout=self._timeout_s)
        if not embedding or not response.embedding:
            return _analysis(response, b"")
        return _analysis(response, await self._encoder_of(response.model_version))

    async def _encoder_of(self, model_version: str) -> bytes:
        """Whose embeddings those of a version are: asked once for each version. Nothing while it cannot be learnt,
        also because replicas of two versions are about."""
        known = self._encoders.get(model_version)
        if known is not None:
            return known
        try:
            info = await self._stub.GetModelInfo(GetModelInfoRequest(), timeout=self._timeout_s)
            encoder = bytes.fromhex(info.encoder_sha256)
        except (FarthingError, ValueError):
            return b""
        if len(self._encoders) >= VERSIONS:
            self._encoders.clear()
        self._encoders[info.model_version] = encoder
        return self._encoders.get(model_version, b"")

    async def judge(self, judged: Judged) -> Opinion:
        response = await self._stub.Judge(_question(judged), timeout=self._judge_timeout_s)
        findings = (AnswerFinding.Name(number) for number in response.findings if number in AnswerFinding.values())
        return Opinion(
            acceptable=response.acceptable,
            findings=tuple(name.removeprefix("ANSWER_FINDING_") for name in findings),
            model_version=response.model_version,
        )


def _question(judged: Judged) -> JudgeRequest:
    return JudgeRequest(
        messages=messages_to_messages(judged.messages),
        answer=judged.answer,
        finish_reason=FinishReason.ValueType(judged.finish_reason),
        task=TaskMessage.ValueType(judged.task),
        tier=tier_to_message(judged.tier),
        prior_success=judged.prior_success,
        mean_token_logprob=judged.mean_token_logprob,
        reference_answer=judged.reference_answer,
    )


def _analysis(response: AnalyzeResponse, encoder_sha256: bytes) -> Analysis:
    length = response.expected_output
    return Analysis(
        complexity=response.complexity,
        task=known(Task, response.task, Task.UNSPECIFIED),
        expected_output_tokens=length.p50_tokens,
        uncertainty=response.uncertainty,
        prompt_tokens=response.prompt_tokens,
        outlooks=_outlooks(response.tiers),
        flags=frozenset(AnalysisFlag(number) for number in map(int, response.flags) if number in _FLAGS),
        stage=known(AnalysisStage, response.stage, AnalysisStage.UNSPECIFIED),
        model_version=response.model_version,
        calibration_version=response.calibration_version,
        least_output_tokens=length.p10_tokens,
        most_output_tokens=length.p90_tokens,
        embedding=response.embedding,
        encoder_sha256=encoder_sha256,
    )


def _outlooks(tiers: Iterable[TierOutlook]) -> tuple[Outlook, ...]:
    """A tier of a newer contract is left out: no policy of this one speaks of it."""
    found = [Outlook(Tier(each.tier), each.success, each.gain, each.score) for each in tiers if int(each.tier) in TIERS]
    return tuple(sorted(found, key=lambda outlook: outlook.tier))
