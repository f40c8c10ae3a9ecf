"""The judge: its model, its use case, and its method over gRPC."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from farthing.classifier.v1 import classifier_service_pb2 as pb
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole, FinishReason, Task, Tier
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_judge import MANIFEST_FILE, MODEL_FILE, SHIPPED, OnnxJudge
from farthing_classifier.app.judging import MAX_ANSWER_BYTES, Answered, AnswerJudge
from farthing_classifier.config import ClassifierSettings
from farthing_classifier.domain.analysis import Task as Kind
from farthing_classifier.domain.errors import AnswerTooLarge, EmptyPrompt, TooManyWaiting
from farthing_classifier.domain.judging.examination import Candidate, Examination, Finding, Finish, examine
from farthing_classifier.domain.prompt import Message, Role
from farthing_classifier.main import build
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import MetricName
from farthing_kit.testing.server import RunningProcess, running
from farthing_kit.testing.settings import settings

STORY = "Ann buys 3 boxes of 12 eggs and eats 5 eggs a week with her sister Eve. How many eggs are left after a week?"
RIGHT = "She has 3 * 12 = 36 eggs. After a week 36 - 5 = 31 are left.\n#### 31"
WRONG = "She has 3 * 12 = 38 eggs. After a week 38 - 5 = 33 are left.\n#### 33"


# --- the model


@pytest.fixture(scope="module")
def judge() -> OnnxJudge:
    return OnnxJudge.load()


def acceptable(judge: OnnxJudge, prompt: str, answer: str, prior: float | None = None, **fields: object) -> float:
    return judge.weigh(examine(Candidate(prompt, answer, **fields)), prior)  # type: ignore[arg-type]


def test_wrong_arithmetic_makes_an_answer_improbable(judge: OnnxJudge) -> None:
    right, wrong = (acceptable(judge, STORY, answer, task=Kind.MATHS) for answer in (RIGHT, WRONG))
    assert wrong < 0.4 < 0.6 < right


@pytest.mark.parametrize("prior", [0.1, 0.35, 0.6, 0.9])
def test_without_findings_an_answer_is_as_good_as_was_foretold(judge: OnnxJudge, prior: float) -> None:
    assert acceptable(judge, "What is the capital of France?", "Paris.", prior) == pytest.approx(prior, abs=1e-5)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("What is the capital of France?", ""),
        ("What is the capital of France?", "I'm sorry, but I can't help with that."),
        ("Tell me a story.", "and then he went. " * 100),
        ("Return the age as JSON.", "The age is 36."),
    ],
)
def test_what_is_no_answer_is_improbable_whatever_was_foretold(judge: OnnxJudge, prompt: str, answer: str) -> None:
    assert acceptable(judge, prompt, answer, 0.9) < 0.2


def test_an_answer_that_was_stopped_or_does_not_parse_goes_down(judge: OnnxJudge) -> None:
    assert acceptable(judge, "Tell me.", "It was", 0.8, finish=Finish.LENGTH) < 0.3
    assert acceptable(judge, "Write code.", "```python\ndef f(:\n```", 0.8) < 0.3


def test_improbable_tokens_only_ever_lower_it(judge: OnnxJudge) -> None:
    given = [
        acceptable(judge, "Tell me.", "It was.", 0.8, mean_token_logprob=p) for p in (-0.1, -1.0, -1.5, -2.0, -99.0)
    ]
    assert given[0] == given[1] == pytest.approx(0.8, abs=1e-5)
    assert given[1] > given[2] > given[3] > given[4] > 0.2


def test_a_better_prior_never_makes_it_worse(judge: OnnxJudge) -> None:
    for answer in (RIGHT, WRONG, "", "Thirty-one."):
        given = [acceptable(judge, STORY, answer, prior) for prior in (0.0, 0.2, 0.5, 0.8, 1.0)]
        assert given == sorted(given)


def test_a_judge_of_other_features_or_bytes_is_refused(tmp_path: Path) -> None:
    for name in (MODEL_FILE, MANIFEST_FILE):
        shutil.copy(SHIPPED / name, tmp_path / name)
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest | {"evidence": ["luck"]}))
    with pytest.raises(ModelFilesError, match="other features"):
        OnnxJudge.load(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest))
    (tmp_path / MODEL_FILE).write_bytes(b"other")
    with pytest.raises(ModelFilesError, match="judge_training"):
        OnnxJudge.load(tmp_path)


# --- the use case


class FakeJudge:
    """Everything is as likely as the prior. `gate` holds it up until it is set."""

    version = "fake-judge"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self._gate = gate
        self.begun = threading.Semaphore(0)

    def weigh(self, examination: Examination, prior_success: float | None) -> float:
        self.begun.release()
        if self._gate is not None:
            self._gate.wait(timeout=10)
        return 0.5 if prior_success is None else prior_success


class RecordingJudgeObserver:
    def __init__(self) -> None:
        self.seen: list[tuple[Finding, ...]] = []

    @contextmanager
    def examining(self) -> Iterator[None]:
        yield

    def examined(self, findings: Sequence[Finding]) -> None:
        self.seen.append(tuple(findings))


def answered(answer: str, prompt: str = "hello", **fields: object) -> Answered:
    return Answered([Message(Role.USER, prompt)], answer, **fields)  # type: ignore[arg-type]


async def test_a_verdict_has_probability_findings_and_version() -> None:
    observer = RecordingJudgeObserver()
    use_case = AnswerJudge(FakeJudge(), observer, workers=1, max_waiting=8)
    verdict = await use_case.judge(answered("It is 3 + 4 = 8.", prior_success=0.7))
    assert (verdict.acceptable, verdict.findings) == (0.7, (Finding.WRONG_ARITHMETIC,))
    assert verdict.model_version == "fake-judge"
    assert observer.seen == [verdict.findings]
    await use_case.close()


async def test_with_a_reference_the_verdict_is_about_agreement() -> None:
    use_case = AnswerJudge(FakeJudge(), RecordingJudgeObserver(), workers=1, max_waiting=8)
    same = await use_case.judge(answered(RIGHT, STORY, reference="#### 31", prior_success=0.1))
    other = await use_case.judge(answered(WRONG, STORY, reference="#### 31", prior_success=0.9))
    assert same.acceptable > 0.9 > 0.1 > other.acceptable
    await use_case.close()


async def test_a_system_message_frames_the_question_and_is_not_it() -> None:
    use_case = AnswerJudge(FakeJudge(), RecordingJudgeObserver(), workers=1, max_waiting=8)
    messages = [Message(Role.SYSTEM, "Answer in valid JSON only."), Message(Role.USER, "Who wrote Emma?")]
    verdict = await use_case.judge(Answered(messages, "Jane Austen"))
    assert Finding.INVALID_JSON in verdict.findings
    await use_case.close()


async def test_nothing_asked_and_too_long_are_refused() -> None:
    use_case = AnswerJudge(FakeJudge(), RecordingJudgeObserver(), workers=1, max_waiting=8)
    with pytest.raises(EmptyPrompt):
        await use_case.judge(answered("yes", "  "))
    for text in ("x" * (MAX_ANSWER_BYTES + 1), "é" * (MAX_ANSWER_BYTES // 2 + 1)):
        with pytest.raises(AnswerTooLarge):
            await use_case.judge(answered(text))
        with pytest.raises(AnswerTooLarge):
            await use_case.judge(answered("yes", reference=text))
    assert (await use_case.judge(answered("x" * MAX_ANSWER_BYTES))).acceptable == 0.5
    await use_case.close()


async def test_one_more_than_may_wait_is_refused_and_a_caller_who_goes_away_leaves_the_queue() -> None:
    gate = threading.Event()
    judge = FakeJudge(gate)
    use_case = AnswerJudge(judge, RecordingJudgeObserver(), workers=1, max_waiting=2)
    first = asyncio.create_task(use_case.judge(answered("one")))
    assert await asyncio.to_thread(judge.begun.acquire, timeout=10)
    second = asyncio.create_task(use_case.judge(answered("two")))
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await use_case.judge(answered("three"))
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    assert (await first).acceptable == 0.5
    assert (await use_case.judge(answered("four"))).acceptable == 0.5
    assert judge.begun.acquire(blocking=False)
    assert not judge.begun.acquire(blocking=False)
    await use_case.close()


# --- over gRPC

Service = RunningProcess[ClassifierSettings]


@pytest.fixture
async def service(encoder_dir: Path) -> AsyncIterator[Service]:
    async with running("classifier", settings(ClassifierSettings, encoder_dir=encoder_dir, threads=1), build) as made:
        yield made


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[ClassifierServiceStub]:
    async with service.channel() as channel:
        yield ClassifierServiceStub(channel)


def request(answer: str, prompt: str = STORY, **fields: object) -> pb.JudgeRequest:
    messages = [ChatMessage(role=ChatRole.CHAT_ROLE_USER, content=prompt)]
    return pb.JudgeRequest(messages=messages, answer=answer, **fields)  # type: ignore[arg-type]


async def test_the_method_judges_and_names_its_version(stub: ClassifierServiceStub) -> None:
    right = await stub.Judge(
        request(RIGHT, finish_reason=FinishReason.FINISH_REASON_STOP, task=Task.TASK_MATHS, tier=Tier.TIER_SMALL),
        timeout=10,
    )
    wrong = await stub.Judge(request(WRONG, task=Task.TASK_MATHS), timeout=10)
    assert wrong.acceptable < right.acceptable
    assert list(right.findings) == [pb.ANSWER_FINDING_ARITHMETIC_HOLDS]
    assert list(wrong.findings) == [pb.ANSWER_FINDING_WRONG_ARITHMETIC]
    info = await stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=10)
    assert right.model_version == info.judge_version != ""


async def test_findings_are_answers_and_not_errors(stub: ClassifierServiceStub) -> None:
    empty = await stub.Judge(request(""), timeout=10)
    assert list(empty.findings) == [pb.ANSWER_FINDING_EMPTY]
    cut = await stub.Judge(request("She has", finish_reason=FinishReason.FINISH_REASON_LENGTH), timeout=10)
    assert pb.ANSWER_FINDING_CUT_OFF in cut.findings


async def test_agreement_with_a_reference_is_told(stub: ClassifierServiceStub) -> None:
    response = await stub.Judge(request(RIGHT, reference_answer="There are 31 eggs left."), timeout=10)
    assert pb.ANSWER_FINDING_AGREES in response.findings
    assert response.acceptable > 0.9


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request("yes", " "), ErrorReason.ERROR_REASON_EMPTY_PROMPT),
        (pb.JudgeRequest(answer="yes"), ErrorReason.ERROR_REASON_EMPTY_PROMPT),
        (request("x" * (MAX_ANSWER_BYTES + 1)), ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE),
        (request("yes", prior_success=1.5), ErrorReason.ERROR_REASON_INVALID_FIELD),
    ],
)
async def test_what_cannot_be_judged_is_refused(
    stub: ClassifierServiceStub, bad: pb.JudgeRequest, reason: ErrorReason.ValueType
) -> None:
    with pytest.raises(FarthingError) as error:
        await stub.Judge(bad, timeout=10)
    assert error.value.reason == reason


async def test_verdicts_are_measured_without_their_text(service: Service, stub: ClassifierServiceStub) -> None:
    await stub.Judge(request("canary-7f3a 1 + 1 = 3"), timeout=10)
    metrics = service.process.telemetry.metrics
    assert metrics.value(f"{MetricName.JUDGE_SECONDS}_count") == 1
    assert metrics.value(MetricName.JUDGE_FINDINGS, finding="wrong_arithmetic") == 1
    assert "canary" not in "".join(span.to_json() for span in service.spans.all())
