"""Step 4: what the classifier sees in a prompt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from farthing_gateway.app.caches import Caches
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.routing import needs_analysis
from farthing_gateway.ports import Classifier, Found
from farthing_kit.errors import FarthingError


@dataclass(frozen=True)
class Judgement:
    """Asks the classifier, where its answer matters, and not before the cache has had its chance.

    An Analyze costs the classifier ten milliseconds of a core, a look-up costs one round trip. Starting both at once
    would save that round trip on a miss and waste an encoder pass on every hit. So the look-up gets a head start of
    `hedge_s`: in the usual case it has answered by then; a slow or dying cache delays the request by no more than the
    head start.
    """

    classifier: Classifier
    hedge_s: float

    async def beside(self, caches: Caches, request: Request) -> tuple[Found | None, Analysis | None]:
        """Steps 3 and 4: the look-up, and for a miss the analysis."""
        if not request.cache_use.any:
            return None, await self._analyze(request)
        looking = asyncio.ensure_future(caches.look_up(request))
        analyzing: asyncio.Task[Analysis | None] | None = None
        try:
            # A hit is impossible where the answer may only be stored; then there is nothing to wait for.
            await asyncio.wait({looking}, timeout=self.hedge_s if request.cache_use.read else 0)
            if not looking.done():
                analyzing = asyncio.ensure_future(self._analyze(request))
            found = await looking
            if found is not None and found.answer is not None and request.cache_use.read:
                return found, None
            return found, await (analyzing or self._analyze(request))
        finally:
            looking.cancel()
            if analyzing is not None:
                analyzing.cancel()

    async def _analyze(self, request: Request) -> Analysis | None:
        if not needs_analysis(request.question, request.policy):
            return None
        try:
            return await self.classifier.analyze(request.question.messages)
        except FarthingError:
            request.degrade(Part.CLASSIFIER, f"the policy's default tier, {request.policy.default_tier.name}, was used")
            return None
