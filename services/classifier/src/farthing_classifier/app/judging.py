"""The other use case of this service: say whether an answer will do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.errors import AnswerTooLarge, EmptyPrompt, TooManyWaiting
from farthing_classifier.domain.judging.examination import Candidate, Finding, Finish, examine
from farthing_classifier.domain.prompt import Message, Role
from farthing_classifier.ports import Judge, JudgeObserver

# Of the answer, and of the reference.
MAX_ANSWER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answered:
    """A conversation, oldest message first, its answer, and what is known about both. An empty `reference` is none."""

    messages: Sequence[Message]
    answer: str
    finish: Finish = Finish.UNSPECIFIED
    task: Task = Task.UNSPECIFIED
    prior_success: float | None = None
    mean_token_logprob: float | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The probability that the answer is acceptable (with a reference: that both agree), and what was found."""

    acceptable: float
    findings: tuple[Finding, ...]
    model_version: str


class AnswerJudge:
    """Examines answers on worker threads: the event loop never waits for one.

    `workers` answers are examined at once and `max_waiting` may be in the house, those included; the next one is
    refused. What an answer can cost is bounded by what is read of it (domain/judging), never by a clock.
    """

    def __init__(self, judge: Judge, observer: JudgeObserver, *, workers: int, max_waiting: int) -> None:
        self._judge = judge
        self._observer = observer
        self._max_waiting = max_waiting
        self._waiting = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="judge")
        self.version = judge.version

    async def judge(self, answered: Answered) -> Verdict:
        """Raises EmptyPrompt, AnswerTooLarge and TooManyWaiting."""
        if not any(message.content.strip() for message in answered.messages):
            raise EmptyPrompt
        for text in (answered.answer, answered.reference):
            if (size := _bytes(text)) > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(size, MAX_ANSWER_BYTES)
        if self._waiting >= self._max_waiting:
            raise TooManyWaiting(self._waiting, self._max_waiting)
        self._waiting += 1
        try:
            with self._observer.examining():
                # A caller who goes away takes the answer out of the queue, unless a worker has begun with it.
                verdict = await asyncio.get_running_loop().run_in_executor(self._pool, self._examine, answered)
                self._observer.examined(verdict.findings)
                return verdict
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Finish the answers that workers have begun, and drop the rest."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _examine(self, answered: Answered) -> Verdict:
        examination = examine(_candidate(answered))
        if examination.agreement is not None:
            acceptable = examination.agreement.probability
        else:
            acceptable = self._judge.weigh(examination, answered.prior_success)
        return Verdict(acceptable, examination.findings, self.version)


def _bytes(text: str) -> int:
    """The size on the wire, without encoding what is too long anyway."""
    return len(text) if len(text) > MAX_ANSWER_BYTES else len(text.encode("utf-8", "replace"))


def _candidate(answered: Answered) -> Candidate:
    """What was asked is the last message that has text and is nobody's frame; a frame alone is the question itself."""
    written = [message for message in answered.messages if message.content.strip()]
    asked = [message for message in written if message.role is not Role.SYSTEM] or written
    frames = [message.content for message in written if message.role is Role.SYSTEM and message is not asked[-1]]
    return Candidate(
        prompt=asked[-1].content.strip(),
        answer=answered.answer,
        frame="\n".join(frames),
        finish=answered.finish,
        task=answered.task,
        prior_success=answered.prior_success,
        mean_token_logprob=answered.mean_token_logprob,
        reference=answered.reference,
    )
