"""The ways for Redis to be away."""

from dataclasses import dataclass

from farthing_kit.testing.proxy import Direction
from tests.support.mesh import REDIS_OF, MeshUnderTest

# The services that keep something there, each in its own.
WITH_REDIS = tuple(REDIS_OF)


@dataclass(frozen=True)
class Outage:
    """A way for Redis to be away: for services that are `parted` from it, in the directions that are `lost`, or else
    for all. The organisation asks meanwhile: where accounting is without Redis too, one that may go on all the same."""

    way: str
    org: str = "foundry"
    parted: tuple[str, ...] = ()
    lost: tuple[Direction, ...] = tuple(Direction)

    async def begin(self, mesh: MeshUnderTest) -> None:
        """Redis is away from now on."""
        for redis in REDIS_OF.values():
            if self.way == "killed":
                await mesh.kill(redis)
            if self.way == "paused":
                mesh.pause(redis)
        for name in self.parted:
            mesh.to_redis[name].partition(*self.lost)

    async def end(self, mesh: MeshUnderTest) -> None:
        """Redis is there again."""
        for redis in REDIS_OF.values():
            if self.way == "killed":
                await mesh.start(redis)
            if self.way == "paused":
                mesh.go_on(redis)
        for name in self.parted:
            mesh.to_redis[name].heal()


OUTAGES = (
    Outage("killed"),
    Outage("paused"),
    Outage("partitioned", parted=WITH_REDIS),
    Outage("cache_partitioned", "abacus", ("cache",)),
    Outage("replies_lost", "lantern", ("cache",), (Direction.DOWN,)),
)
