"""A thousand requests at once, answered at once: nothing fails, and the books have every nano-dollar."""

import asyncio
import secrets

from farthing.accounting.v1 import report_service_pb2
from farthing.type.v1.model_pb2 import CACHE_LEVEL_NONE
from farthing_cli import report
from farthing_cli.generation import Answer
from tests.support.mesh import MeshUnderTest, prompt

REQUESTS = 1_000
DIFFERENT = 600  # the others repeat one of these, of the same tenant
IN_FLIGHT = 16
ORGS = ("lantern", "abacus", "foundry")
TAG = "run"


async def booked(mesh: MeshUnderTest, run: str) -> report_service_pb2.CostRow:
    """What the ledger has of this run, once it has all of it."""
    while True:
        rows = {row.group: row for row in (await report.fetch(mesh.client, "tenant", TAG)).rows}
        if run in rows and rows[run].requests >= REQUESTS:
            return rows[run]
        await asyncio.sleep(0.1)


async def test_a_thousand_requests_at_concurrency_16(mesh: MeshUnderTest) -> None:
    gateways = [await mesh.gateway(org, 60) for org in ORGS]
    free, run = asyncio.Semaphore(IN_FLIGHT), secrets.token_hex(8)

    async def one(number: int) -> Answer:
        asked = prompt(f"question {number % DIFFERENT} of a thousand", model="")
        asked.tags[TAG] = run
        async with free:
            return await gateways[number % len(ORGS)].ask(asked)

    answers = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    row = await asyncio.wait_for(booked(mesh, run), 60)
    books = await report.verify(mesh.client)
    assert row.requests == REQUESTS
    assert row.cost.nano_units == sum(each.final.cost.nano_units for each in answers)
    assert row.counterfactual_cost.nano_units == sum(each.final.counterfactual_cost.nano_units for each in answers)
    assert 0 < row.cache_hits == sum(each.decision.cache_level != CACHE_LEVEL_NONE for each in answers)
    assert not books.violations
    assert books.ledger_total.nano_units == books.usage_total.nano_units
