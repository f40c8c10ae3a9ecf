"""400 tenants ask the same questions and have answers of their own: everyone must find theirs, and nobody another's,
also not by vectors that are crafted to lie beside another tenant's.
"""

import argparse
import asyncio
import os

import numpy as np

from bench.caching import _service as mesh
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel

TENANTS = int(os.environ.get("FARTHING_BENCH_TENANTS", "400"))
QUESTIONS = 25
LOOKUPS = int(os.environ.get("FARTHING_BENCH_LOOKUPS", "100000"))
CRAFTED = LOOKUPS // 20
AT_ONCE = 32
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run(options.seed))


async def _run(seed: int) -> dict[str, float]:
    dice = np.random.default_rng(seed)
    questions = mesh.units(dice, QUESTIONS)
    async with mesh.running(replicas=2, redis_timeout_ms="5000", verifier_timeout_ms="1000") as running:
        await mesh.trust(running.redis_url, map(_org, range(TENANTS)))
        # The even tenants keep every question; the odd ones only the first half, and ask for the rest too.
        gate = asyncio.Semaphore(AT_ONCE)
        stubs = [await running.stub(tenant % 2, _org(tenant)) for tenant in range(TENANTS)]
        await asyncio.gather(*(_keep(gate, stubs[tenant], tenant, questions) for tenant in range(TENANTS)))
        plans = [_plan(dice, number, questions) for number in range(LOOKUPS)]
        outcomes = []
        for start in range(0, LOOKUPS, 1_000):
            batch = plans[start : start + 1_000]
            outcomes += await asyncio.gather(*(_ask(gate, stubs, plan) for plan in batch))
        own = [found for plan, found in zip(plans, outcomes, strict=True) if plan[3]]
        return {
            "own_recall": sum(one == "own" for one in own) / len(own),
            "cross_tenant_hits": float(sum(one == "other" for one in outcomes)),
            "isolation_lookups": float(LOOKUPS),
            "isolation_crafted": float(sum(plan[4] for plan in plans)),
        }


Plan = tuple[int, int, mesh.Vectors, bool, bool]


def _plan(dice: np.random.Generator, number: int, questions: mesh.Vectors) -> Plan:
    """Who asks what, with which vector, whether they kept an answer, and whether the vector is crafted: it lies
    beside one that only others have kept."""
    crafted = number % (LOOKUPS // CRAFTED) == 0
    tenant = int(dice.integers(TENANTS))
    if crafted:
        tenant |= 1
        question = int(dice.integers(QUESTIONS // 2 + 1, QUESTIONS))
        return tenant, question, mesh.nearby(dice, questions[question : question + 1], 0.9999)[0], False, True
    question = int(dice.integers(QUESTIONS))
    vector = mesh.nearby(dice, questions[question : question + 1], 0.97)[0]
    return tenant, question, vector, _has(tenant, question), False


async def _keep(gate: asyncio.Semaphore, stub: CacheServiceStub, tenant: int, questions: mesh.Vectors) -> None:
    async with gate:
        epoch = (await stub.Lookup(pb.LookupRequest(key=mesh.key(b"x")))).epoch
        for number, vector in enumerate(questions):
            if _has(tenant, number):
                request = pb.StoreRequest(
                    key=mesh.key(f"q{number}".encode()),
                    answer=mesh.answer(f"{_org(tenant)} says {number}"),
                    epoch=epoch,
                    meaning=mesh.meaning(mesh.question(number, "a"), vector),
                )
                await stub.Store(request)


async def _ask(gate: asyncio.Semaphore, stubs: list[CacheServiceStub], plan: Plan) -> str:
    """Whose answer came: "own", "other", "none". An exploration is asked again; a candidate is an answer too: it must
    not be another tenant's."""
    tenant, number, vector, _, _ = plan
    request = pb.SemanticLookupRequest(
        key=mesh.key(f"a{number}".encode()),
        meaning=mesh.meaning(mesh.question(number, "the"), vector),
        task=mesh.TASK,
        max_error_share=mesh.DELTA,
    )
    async with gate:
        while (found := await stubs[tenant].SemanticLookup(request)).explore:
            if found.answer.text != f"{_org(tenant)} says {number}":
                return "other"
    if found.level != CacheLevel.CACHE_LEVEL_SEMANTIC:
        return "none"
    return "own" if found.answer.text == f"{_org(tenant)} says {number}" else "other"


def _has(tenant: int, number: int) -> bool:
    return tenant % 2 == 0 or number <= QUESTIONS // 2


def _org(tenant: int) -> str:
    return f"tenant-{tenant}"
