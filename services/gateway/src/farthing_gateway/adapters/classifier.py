"""The classifier over gRPC."""

from __future__ import annotations

from typing import Final

from farthing.classifier.v1.classifier_service_pb2 import AnalyzeRequest
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from farthing_gateway.adapters.wire import known, messages_to_messages
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.model import Task
from farthing_gateway.domain.prompt import Message
from farthing_kit.interceptors.client import Channel

RETRIED: Final = ("farthing.classifier.v1.ClassifierService",)


class GrpcClassifier:
    """The Classifier port."""

    def __init__(self, channel: Channel, *, timeout_s: float) -> None:
        self._stub = ClassifierServiceStub(channel)
        self._timeout_s = timeout_s

    async def analyze(self, messages: tuple[Message, ...]) -> Analysis:
        # The embedding is left out until there is a semantic cache that wants it.
        request = AnalyzeRequest(messages=messages_to_messages(messages), omit_embedding=True)
        response = await self._stub.Analyze(request, timeout=self._timeout_s)
        return Analysis(
            complexity=response.complexity,
            task=known(Task, response.task, Task.UNSPECIFIED),
            expected_output_tokens=response.expected_output.p50_tokens,
            uncertainty=response.uncertainty,
            prompt_tokens=response.prompt_tokens,
        )
