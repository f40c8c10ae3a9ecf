"""Analyses recorded look-ups, beside the loop that serves calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from farthing_cache.domain.analysis import Analysis, Question, analyze
from farthing_cache.domain.answer import Org
from farthing_cache.ports import LogStore
from farthing_kit.clock import Clock

# The newest records that one analysis looks at.
LIMIT: Final = 50_000


@dataclass(frozen=True)
class Analyst:
    """Reads the log of an organisation, and asks it."""

    store: LogStore
    clock: Clock

    async def analyze(self, org: Org, question: Question) -> tuple[Analysis, int]:
        """The analysis, and how many records were ever dropped."""
        since = 0.0 if question.window is None else self.clock.now().timestamp() - question.window.total_seconds()
        records, dropped = await self.store.read(org, int(max(0.0, since) * 1000))
        return await asyncio.to_thread(analyze, records[-LIMIT:], question), dropped
