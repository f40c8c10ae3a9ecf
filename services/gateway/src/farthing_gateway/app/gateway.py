"""The door: a key and a prompt go in, events come out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.authentication import Authentication, Caller
from farthing_gateway.app.idempotency import Idempotency
from farthing_gateway.app.models import Models
from farthing_gateway.app.one_request import OneRequest
from farthing_gateway.app.request import Request
from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.attempt import new_attempt
from farthing_gateway.domain.cachekey import cache_key, circle_of
from farthing_gateway.domain.catalogue import Catalogue
from farthing_gateway.domain.claims import Claim
from farthing_gateway.domain.eligibility import cache_use
from farthing_gateway.domain.events import Event, Part
from farthing_gateway.domain.prompt import Prompt, Question
from farthing_gateway.ports import Observer
from farthing_kit.clock import Clock
from farthing_kit.context import Priority, RequestContext, Role, new_request_id, set_context


@dataclass(frozen=True)
class Gateway:
    """The use cases of the gateway."""

    authentication: Authentication
    limits: Limits
    idempotency: Idempotency
    way: OneRequest
    models: Models
    observer: Observer
    clock: Clock

    async def answer(self, api_key: str | None, prompt: Prompt) -> AsyncGenerator[Event]:
        """Answer a prompt in the name of a key: one Decision, Deltas, one Final."""
        arrived_s = self.clock.monotonic()
        caller = await self.authentication.caller(api_key)  # 1 key → principal, policy
        question = accept(prompt, caller.grant.policy, self.limits)
        org = caller.grant.principal.org
        claim = self.idempotency.claim(circle_of(caller.grant.policy, caller.grant.principal), prompt)
        again = None if claim is None else self.idempotency.repetition(org, claim, arrived_s)
        if again is not None:
            self.observer.decided(again[0])
            self.observer.ended(again[0], again[2])
            for event in again:
                yield event
            return
        async with aclosing(self._run(caller, prompt.priority, question, claim, arrived_s)) as events:
            async for event in events:
                yield event

    async def list_models(self, api_key: str | None) -> Catalogue:
        """The models that the holder of a key may name."""
        await self.authentication.caller(api_key)
        return await self.models.catalogue()

    def _run(
        self, caller: Caller, priority: int, question: Question, claim: Claim | None, arrived_s: float
    ) -> AsyncGenerator[Event]:
        request = self._request(caller, priority, question, claim, arrived_s)
        set_context(request.context)  # of this call's task: every hop of it is made in the caller's name from here on
        self.observer.accepted(request.context, question)
        events = self.way.answer(request)
        return events if claim is None else self.idempotency.following(claim, request, events)

    def _request(
        self, caller: Caller, priority: int, question: Question, claim: Claim | None, arrived_s: float
    ) -> Request:
        principal, policy = caller.grant.principal, caller.grant.policy
        request_id = new_request_id() if claim is None else claim.request_id
        request = Request(
            context=RequestContext(request_id, principal, Role.TENANT, Priority(priority or Priority.NORMAL)),
            policy=policy,
            question=question,
            key=cache_key(question, policy, principal),
            cache_use=cache_use(question, policy, principal),
            near_ticket=self.way.caches.memory.ticket(principal.org),
            attempt=new_attempt(request_id, self.clock.now()),
            arrived_s=arrived_s,
        )
        if caller.from_memory:
            request.degrade(Part.AUTHENTICATION, "the key was known from before; accounting could not be asked")
        return request
