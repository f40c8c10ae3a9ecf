"""Step 4: what the classifier sees in a prompt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from farthing_gateway.app.caches import Caches
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.routing import needs_analysis, wants_embedding
from farthing_gateway.ports import Classifier, Found
from farthing_kit import tasks
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
        """Steps 3 and 4: the look-up, and for a miss that nobody else is making the answer to, the analysis."""
        if not request.cache_use.any:
            return None, await self.analyze(request)
        begun: list[asyncio.Task[Analysis | None]] = []
        # A timer and not a task: when the cache is quick, as it mostly is, there is nothing to schedule twice. Where an
        # answer may only be stored, no hit is possible, and nothing to wait for.
        delay_s = self.hedge_s if request.cache_use.read else 0.0
        timer = asyncio.get_running_loop().call_later(delay_s, lambda: begun.append(self._begin(request)))
        try:
            found = await caches.look_up(request)
            timer.cancel()
            if found is not None and (found.follow or (found.answer is not None and request.cache_use.read)):
                return found, None
            return found, await (begun[0] if begun else self.analyze(request))
        finally:
            timer.cancel()
            for task in begun:
                task.cancel()

    def _begin(self, request: Request) -> asyncio.Task[Analysis | None]:
        return tasks.awaited("analyze", self.analyze(request))

    async def analyze(self, request: Request) -> Analysis | None:
        """Step 4: what the classifier sees; None where it is not needed, or could not be asked."""
        embedding = wants_embedding(request.policy, request.cache_use)
        routes = needs_analysis(request.question, request.policy)
        if not embedding and not routes:
            return None
        try:
            return await self.classifier.analyze(request.question.messages, embedding=embedding)
        except FarthingError:
            if routes:  # else only a semantic hit was missed, which is no more than a miss
                default = request.policy.default_tier.name
                request.degrade(Part.CLASSIFIER, f"the policy's default tier, {default}, was used")
            return None
