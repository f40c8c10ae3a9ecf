"""A thousand requests at once, answered at once: nothing fails, and the books have every nano-dollar."""

import asyncio

from farthing_cli import report
from tests.support.mesh import MeshUnderTest, prompt

REQUESTS = 1_000
IN_FLIGHT = 16


async def test_a_thousand_requests_at_concurrency_16(mesh: MeshUnderTest) -> None:
    gateways = [await mesh.gateway(org, 60) for org in ("lantern", "abacus", "foundry")]
    before = (await report.fetch(mesh.client, "tenant", None)).total
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> int:
        async with free:
            answer = await gateways[number % 3].ask(prompt(f"question {number % 700} of a thousand"))
        return answer.final.cost.nano_units

    costs = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    await mesh.booked(before.requests + REQUESTS)
    after = (await report.fetch(mesh.client, "tenant", None)).total
    books = await report.verify(mesh.client)
    assert len(costs) == REQUESTS
    assert after.cost.nano_units - before.cost.nano_units == sum(costs)
    assert after.cache_hits > before.cache_hits
    assert not books.violations
    assert books.ledger_total.nano_units == books.usage_total.nano_units == after.cost.nano_units
