"""The use case that says what a prompt needs: words and surface first, the encoder when that leaves doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from farthing_classifier.app.passes import Passes
from farthing_classifier.domain import legibility, length, lexical, tiers, views
from farthing_classifier.domain.analysis import (
    Analysis,
    Flags,
    Scores,
    Stage,
    chosen_task,
    ranked,
    uncertainty,
    with_familiarity,
)  # fmt: skip
from farthing_classifier.domain.calibration import Calibration
from farthing_classifier.domain.drift import Drift, Window
from farthing_classifier.domain.errors import EmptyPrompt, TooManyWaiting
from farthing_classifier.domain.prompt import Message, Prompt, Role, assemble
from farthing_classifier.domain.window import estimate_tokens, guess_tokens
from farthing_classifier.domain.wording import core
from farthing_classifier.ports import Encoded, Encoder, EncoderInfo, Heads, HeadsInfo, Observer

WARM_UP_TEXTS: Final = ("warm up", "warm up " * 60)
# The first stage of longer prompts takes milliseconds: a thread's work. That of shorter ones takes less than the way
# there.
INLINE_CHARS: Final = 4_096
# How often the drift is told.
DRIFT_EVERY: Final = 50


class ModelMismatch(RuntimeError):
    """The heads were trained on another encoder; what they would say is meaningless."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Encoder, heads and calibration together. Thresholds are bound to `version`."""

    version: str
    encoder: EncoderInfo
    heads: HeadsInfo
    calibration_version: str


@dataclass(frozen=True, slots=True)
class _First:
    """What the first stage knows of a prompt."""

    prompt: Prompt
    lexical: tuple[float, ...]
    scores: Scores
    flags: Flags


class Analyzer:
    """Judges prompts. At most `max_waiting` may be in the house; the next one is refused."""

    def __init__(
        self,
        encoder: Encoder,
        heads: Heads,
        calibration: Calibration,
        observer: Observer,
        *,
        lanes: int,
        max_batch: int,
        max_waiting: int,
        drift: Window,
    ) -> None:
        if encoder.info.sha256 != heads.info.encoder_sha256:
            raise ModelMismatch(
                f"the heads {heads.info.version} belong to the encoder {heads.info.encoder_sha256[:12]}, but "
                f"{encoder.info.sha256[:12]} is loaded; export the encoder with the locked packages, or train again"
            )
        calibration.must_belong_to(heads.info.version)
        self._passes = Passes(encoder, lanes=lanes, max_batch=max_batch, passed=observer.passed)
        self._heads = heads
        self._calibration = calibration
        self._observer = observer
        self._max_waiting = max_waiting
        self._waiting = 0
        self._drift = drift
        self._judged = 0
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        version = f"{heads.info.version}+{encoder.info.sha256[:12]}"
        self.model = ModelInfo(version, encoder.info, heads.info, calibration.version)

    @property
    def drift(self) -> Drift:
        """How far the prompts of late are from the training data."""
        return self._drift.measure()

    async def analyze(self, messages: Sequence[Message], *, embedding: bool = True) -> Analysis:
        """The judgement of a conversation's last message. Raises EmptyPrompt and TooManyWaiting."""
        if self._waiting >= self._max_waiting:
            raise TooManyWaiting(self._waiting, self._max_waiting)
        self._waiting += 1
        try:
            with self._observer.judging() as judged:
                analysis = await self._analyze(messages, embedding)
                judged(analysis)
        finally:
            self._waiting -= 1
        self._remember(analysis)
        return analysis

    async def warm_up(self) -> None:
        """The first passes allocate; let no caller wait for that."""
        for text in WARM_UP_TEXTS:
            await self._analyze([Message(Role.USER, text)], embedding=True)

    async def close(self) -> None:
        """Finish the prompts that workers have begun, and drop the rest."""
        await self._passes.close()
        await asyncio.to_thread(self._reader.shutdown, cancel_futures=True)

    async def _analyze(self, messages: Sequence[Message], embedding: bool) -> Analysis:
        first = await self._first(messages)
        if not embedding and not self._is_in_doubt(first):
            return self._judgement(first, first.scores, Stage.LEXICAL, None)
        # A caller who goes away takes the prompt out of the queue, or out of the batch.
        encoded = await self._passes.encode(core(first.prompt.asked))
        if Flags.NO_SIGNAL in first.flags:
            analysis = self._judgement(first, first.scores, Stage.LEXICAL, encoded)
        else:
            scores = self._heads.second(encoded.embedding, first.lexical, first.scores)
            analysis = self._judgement(first, scores, Stage.ENCODER, encoded)
        return analysis if embedding else replace(analysis, embedding=b"")

    async def _first(self, messages: Sequence[Message]) -> _First:
        if sum(len(message.content) for message in messages) <= INLINE_CHARS:
            return self._look(messages)
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._look, messages)

    def _look(self, messages: Sequence[Message]) -> _First:
        prompt = assemble(messages)
        if prompt.is_empty:
            raise EmptyPrompt
        seen = views.of(prompt.text)
        return _First(prompt, seen.whole.lexical, self._heads.first(seen), _flags(prompt))

    def _is_in_doubt(self, first: _First) -> bool:
        return Flags.NO_SIGNAL not in first.flags and first.scores.doubt > self._heads.info.limits.doubt

    def _judgement(self, first: _First, scores: Scores, stage: Stage, encoded: Encoded | None) -> Analysis:
        prompt = first.prompt
        flags = with_familiarity(first.flags, scores.familiarity, self._heads.info.limits)
        outlooks = tiers.outlooks(scores.tiers, self._calibration.successes(scores.tiers))
        complexity = tiers.complexity(outlooks)
        return Analysis(
            complexity=complexity,
            tiers=outlooks,
            task=chosen_task(scores.tasks),
            tasks=ranked(scores.tasks),
            expected_output=length.predict(scores.log_tokens, prompt.text),
            uncertainty=uncertainty(complexity, scores.familiarity, flags),
            familiarity=scores.familiarity,
            embedding=b"" if encoded is None else encoded.embedding.astype(np.dtype("<f4")).tobytes(),
            prompt_tokens=_prompt_tokens(prompt, encoded),
            flags=flags | Flags.TRUNCATED if encoded is not None and encoded.truncated else flags,
            stage=stage,
            model_version=self.model.version,
            calibration_version=self.model.calibration_version,
        )

    def _remember(self, analysis: Analysis) -> None:
        self._drift.add(analysis.complexity, analysis.familiarity, analysis.tasks[0][0])
        self._judged += 1
        if self._judged % DRIFT_EVERY == 0:
            self._observer.drifting(self.drift)


def _prompt_tokens(prompt: Prompt, encoded: Encoded | None) -> int:
    read = guess_tokens(prompt.asked) if encoded is None else encoded.prompt_tokens
    if encoded is None:
        return estimate_tokens(read, len(prompt.asked), prompt.rest_chars)
    judged = len(core(prompt.asked))
    return estimate_tokens(read, judged, prompt.rest_chars + max(0, len(prompt.asked) - judged))


def _flags(prompt: Prompt) -> Flags:
    """What can be said before any model has spoken."""
    flags = Flags.ADDRESSES_ROUTER if prompt.addresses_router else Flags.NONE
    if len(prompt.text) > lexical.HEAD_CHARS + lexical.TAIL_CHARS:
        flags |= Flags.TRUNCATED
    if legibility.is_not_text(prompt.text):
        return flags | Flags.NOT_TEXT | Flags.NO_SIGNAL
    if legibility.says_nothing(prompt.text):
        return flags | Flags.NO_SIGNAL
    if legibility.is_unfamiliar_language(prompt.text):
        # No outcome in another language was trained on: what the models say there rests on nothing.
        return flags | Flags.UNFAMILIAR_LANGUAGE | Flags.NO_SIGNAL
    return flags
