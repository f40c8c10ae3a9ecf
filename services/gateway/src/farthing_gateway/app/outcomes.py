"""What the mesh learns from answers: what was foretold is kept, callers and shadows say what happened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from farthing_gateway.app.authentication import Authentication, Caller
from farthing_gateway.domain.errors import no_outcome_wanted
from farthing_gateway.domain.outcomes import Foretold, Observed, Outcome, OutcomeSource, is_request_id
from farthing_gateway.ports import AnswerCache, OutcomeBook
from farthing_kit.context import RequestContext, Role, new_request_id, use_context
from farthing_kit.errors import InvalidArgument


@dataclass(frozen=True)
class Outcomes:
    """The use cases of the OutcomeService."""

    authentication: Authentication
    book: OutcomeBook
    cache: AnswerCache

    async def report(self, api_key: str | None, request_id: str, outcome: Outcome) -> None:
        """Take a caller's word on an answer to its organisation. NotFound where nothing was foretold about it."""
        caller = await self.authentication.caller(api_key)
        if not is_request_id(request_id):
            raise InvalidArgument.field("request_id", "must be the id of a request, as its Decision had it")
        found = await self.book.find(request_id)
        if found is None or found.org != caller.grant.principal.org:
            raise no_outcome_wanted()
        if found.lookup_id:
            await self._of_hit(caller, found, outcome)
            return
        await self.book.write(Observed(found, outcome, OutcomeSource.CALLER))

    async def _of_hit(self, caller: Caller, hit: Foretold, outcome: Outcome) -> None:
        """An outcome of a semantic hit says how good the cache is at telling requests that mean the same, and nothing
        of the tier that answered another request: no calibration is fitted on it."""
        context = RequestContext(new_request_id(), caller.grant.principal, Role.TENANT)
        with use_context(context):
            await self.cache.report(hit.lookup_id, right=outcome is Outcome.ACCEPTABLE)

    async def observed(self, since: datetime | None) -> AsyncGenerator[Observed]:
        """Outcomes of requests that were decided since then."""
        async with aclosing(self.book.observed()) as found:
            async for each in found:
                if since is None or each.foretold.decided_at >= since:
                    yield each
