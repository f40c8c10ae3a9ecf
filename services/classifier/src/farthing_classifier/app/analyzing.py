"""The use case that says what a prompt needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from farthing_classifier.domain import legibility, length, lexical
from farthing_classifier.domain.analysis import Analysis, Flags, chosen_task, ranked, uncertainty
from farthing_classifier.domain.errors import EmptyPrompt, TooManyWaiting
from farthing_classifier.domain.prompt import Message, Prompt, Role, assemble
from farthing_classifier.domain.window import estimate_tokens
from farthing_classifier.ports import Encoder, EncoderInfo, Heads, HeadsInfo, Observer

WARM_UP_TEXTS: Final = ("warm up", "warm up " * 60)


class ModelMismatch(RuntimeError):
    """The heads were trained on another encoder; what they would say is meaningless."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Encoder and heads together. Thresholds are bound to `version`."""

    version: str
    encoder: EncoderInfo
    heads: HeadsInfo


class Analyzer:
    """Judges prompts on worker threads, so that the event loop never waits for a model.

    `workers` prompts are judged at once and `max_waiting` may be in the house, those included; the next one is refused.
    """

    def __init__(self, encoder: Encoder, heads: Heads, observer: Observer, *, workers: int, max_waiting: int) -> None:
        if encoder.info.sha256 != heads.info.encoder_sha256:
            raise ModelMismatch(
                f"the heads {heads.info.version} belong to the encoder {heads.info.encoder_sha256[:12]}, but "
                f"{encoder.info.sha256[:12]} is loaded; export the encoder with the locked packages, or train again"
            )
        self._encoder = encoder
        self._heads = heads
        self._observer = observer
        self._max_waiting = max_waiting
        self._waiting = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="classifier")
        self.model = ModelInfo(f"{heads.info.version}+{encoder.info.sha256[:12]}", encoder.info, heads.info)

    async def analyze(self, messages: Sequence[Message]) -> Analysis:
        """The judgement of a conversation's last message. Raises EmptyPrompt and TooManyWaiting."""
        prompt = assemble(messages)
        if prompt.is_empty:
            raise EmptyPrompt
        if self._waiting >= self._max_waiting:
            raise TooManyWaiting(self._waiting, self._max_waiting)
        self._waiting += 1
        try:
            with self._observer.judging():
                # A caller who goes away takes the prompt out of the queue, unless a worker has begun with it.
                analysis = await asyncio.get_running_loop().run_in_executor(self._pool, self._judge, prompt)
                self._observer.judged(analysis)
                return analysis
        finally:
            self._waiting -= 1

    async def warm_up(self) -> None:
        """The first passes allocate; let no caller wait for that."""
        for text in WARM_UP_TEXTS:
            await self.analyze([Message(Role.USER, text)])

    async def close(self) -> None:
        """Finish the prompts that workers have begun, and drop the rest."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _judge(self, prompt: Prompt) -> Analysis:
        encoded = self._encoder.encode(prompt.text)
        scores = self._heads.score(encoded.embedding, lexical.features(prompt.text))
        flags = _flags(prompt.text, encoded.truncated)
        return Analysis(
            complexity=scores.complexity,
            task=chosen_task(scores.tasks),
            tasks=ranked(scores.tasks),
            expected_output=length.predict(scores.log_p50_tokens, scores.log_p90_tokens, prompt.text),
            uncertainty=uncertainty(scores.complexity, scores.familiarity, flags),
            embedding=encoded.embedding.astype(np.dtype("<f4")).tobytes(),
            prompt_tokens=estimate_tokens(encoded.prompt_tokens, len(prompt.text), prompt.rest_chars),
            flags=flags,
            model_version=self.model.version,
        )


def _flags(text: str, truncated: bool) -> Flags:
    flags = Flags.TRUNCATED if truncated else Flags.NONE
    if legibility.is_not_text(text):
        return flags | Flags.NOT_TEXT
    if legibility.is_unfamiliar_language(text):
        return flags | Flags.UNFAMILIAR_LANGUAGE
    return flags
