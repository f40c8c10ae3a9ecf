"""Evidence for the semantic cache as months of right answers would have left it, for tests and benches that are about
what happens after that."""

import json
import random
from collections.abc import Iterable
from functools import lru_cache

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.evidence import RedisEvidence
from farthing_cache.domain.answer import Org
from farthing_cache.domain.bound import Action, Guard, Promise
from farthing_cli.mesh import read_secret
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from tests.support.mesh import MeshUnderTest

TASKS = range(16)
DELTA = 0.02
REQUESTS = 20_000


def trusted(delta: float, requests: int = REQUESTS) -> Guard:
    """A guard that has seen nothing but right answers."""
    guard, dice = Guard.new(Promise(delta=delta)), random.Random(7)
    for _ in range(requests):
        score = dice.uniform(0.5, 0.999)
        guard.observe_request()
        decision = guard.decide(score, dice.random())
        explored = decision.action is Action.EXPLORE
        if explored or decision.action is Action.MISS:
            guard.label(score, explored=explored, right=True, propensity=decision.propensity)
    return guard


@lru_cache(maxsize=4)
def state(delta: float) -> bytes:
    """A trusted guard as the cache keeps it."""
    return json.dumps(trusted(delta).to_state()).encode()


async def plant(redis_url: str, names: KeyNames, org: str, tasks: Iterable[int], delta: float) -> None:
    """Give an organisation that evidence for kinds of work. Before its first semantic look-up: a replica of the cache
    reads evidence once, and from then on adds to it."""
    redis = connect(redis_url, timeout_s=5.0, max_connections=2)
    async with RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=5.0) as client:
        for task in tasks:
            if not await RedisEvidence(client, names).replace(Org(org), task, 0, state(delta)):
                raise AssertionError(f"{org} has had semantic look-ups before")


async def trust(mesh: MeshUnderTest, org: str) -> None:
    """The same on a running mesh, for every kind of work."""
    names = KeyNames(read_secret(mesh.folder.mesh_secret_file))
    await plant(f"redis://{mesh.address['redis-cache']}/0", names, org, TASKS, DELTA)
