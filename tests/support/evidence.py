"""Evidence for the semantic cache as months of right answers would have left it, for tests and benches that are about
what happens after that."""

import json
import random
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


@lru_cache(maxsize=1)
def _trusted() -> bytes:
    guard, dice = Guard.new(Promise(delta=DELTA)), random.Random(7)
    for _ in range(REQUESTS):
        score = dice.uniform(0.5, 0.999)
        guard.observe_request()
        decision = guard.decide(score, dice.random())
        explored = decision.action is Action.EXPLORE
        if explored or decision.action is Action.MISS:
            guard.label(score, explored=explored, right=True, propensity=decision.propensity)
    return json.dumps(guard.to_state()).encode()


async def trust(mesh: MeshUnderTest, org: str) -> None:
    """Give an organisation that evidence, for every kind of work. Before its first semantic look-up: a replica of the
    cache reads evidence once, and from then on adds to it."""
    redis = connect(f"redis://{mesh.address['redis']}/0", timeout_s=5.0, max_connections=2)
    client = RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=5.0)
    async with client:
        evidence = RedisEvidence(client, KeyNames(read_secret(mesh.folder.mesh_secret_file)))
        for task in TASKS:
            if not await evidence.replace(Org(org), task, 0, _trusted()):
                raise AssertionError(f"{org} has had semantic look-ups before")
