"""All pools with their present state, and the choice of a server for a generation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType

from farthing_inference.domain.errors import ModelFull, ModelUnavailable, PoolNotFound, UnknownModel
from farthing_inference.domain.health import FAILURES_UNTIL_DOWN, ServerHealth
from farthing_inference.domain.pools import ModelSpec, Placement, PoolSpec, PoolState, PoolStatus, ServerAddress

# Pools whose use differs by less than one step count as equally loaded, so that the cheaper one fills first.
LOAD_STEPS = 4


@dataclass(slots=True)
class _Server:
    health: ServerHealth = ServerHealth()
    in_flight: int = 0
    last_use: int = 0
    models: dict[str, ModelSpec] = field(default_factory=dict)


@dataclass(slots=True)
class _Pool:
    spec: PoolSpec
    order: int
    draining: bool = False
    servers: dict[ServerAddress, _Server] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        return sum(server.in_flight for server in self.servers.values())

    @property
    def servers_up(self) -> int:
        return sum(server.health.up for server in self.servers.values())

    @property
    def state(self) -> PoolState:
        if self.draining:
            return PoolState.DRAINING
        return PoolState.ACTIVE if self.servers_up else PoolState.UNREACHABLE


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pool with those of its servers that can run the model."""

    pool: _Pool
    placements: tuple[Placement, ...]

    @property
    def in_flight(self) -> int:
        return sum(self.server(placement).in_flight for placement in self.placements)

    @property
    def capacity(self) -> int:
        return self.pool.spec.max_in_flight * len(self.placements)

    @property
    def rank(self) -> tuple[int, Fraction, int]:
        return self.in_flight * LOAD_STEPS // self.capacity, self.pool.spec.price_per_slot, self.pool.order

    def server(self, placement: Placement) -> _Server:
        return self.pool.servers[placement.server]

    def least_used(self) -> Placement:
        """The server with the fewest generations; of equals the one that was idle longest."""
        return min(self.placements, key=lambda item: (self.server(item).in_flight, self.server(item).last_use))


class Fleet:
    """Keeps count and health, and chooses. Lives in one event loop: no method waits."""

    def __init__(self, specs: tuple[PoolSpec, ...], *, failures_until_down: int = FAILURES_UNTIL_DOWN) -> None:
        self._failures_until_down = failures_until_down
        self._uses = 0
        self._listeners: list[Callable[[], None]] = []
        self._pools = {
            spec.name: _Pool(spec, order, servers={address: _Server() for address in spec.servers})
            for order, spec in enumerate(specs)
        }
        self._pool_of = {address: pool for pool in self._pools.values() for address in pool.spec.servers}

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have it called whenever a generation that could not be placed before perhaps can."""
        self._listeners.append(listener)

    def choose(self, model: str, avoid: Collection[ServerAddress] = ()) -> Placement:
        """Where the next generation of this model goes: the pool with the least use for its capacity, in steps; among
        those the cheapest; in it the server with the fewest generations. `avoid` names servers that were tried."""
        candidates = [self._candidate(pool, model, avoid) for pool in self._serving(model)]
        usable = [candidate for candidate in candidates if candidate.placements]
        if not usable:
            raise ModelUnavailable(model)
        with_room = [candidate for candidate in usable if candidate.in_flight < candidate.capacity]
        if not with_room:
            in_flight, limit = sum(c.in_flight for c in usable), sum(c.capacity for c in usable)
            raise ModelFull(model, in_flight=in_flight, limit=limit)
        return min(with_room, key=lambda candidate: candidate.rank).least_used()

    def can_run(self, model: str) -> bool:
        """Whether a server can run the model, a busy one included."""
        return any(self._candidate(pool, model, ()).placements for pool in self._serving(model))

    def may_come_back(self, model: str) -> bool:
        """Whether a pool serves the model that was not taken out of use on purpose."""
        return any(not pool.draining for pool in self._serving(model))

    def begin(self, placement: Placement) -> None:
        """A generation starts there."""
        server = self._server(placement.server)
        self._uses += 1
        server.in_flight += 1
        server.last_use = self._uses

    def end(self, placement: Placement) -> None:
        """A generation that began there is over, however it ended."""
        server = self._server(placement.server)
        assert server.in_flight > 0, "end without begin"
        server.in_flight -= 1
        self._tell()

    def answered(
        self,
        address: ServerAddress,
        ready_models: frozenset[str],
        control_tokens: Mapping[str, Iterable[str]] = MappingProxyType({}),
    ) -> None:
        """A health check came back, with those of the server's models that are ready, and what the tokenizers of some,
        by name, read as markers, beside what the pools file says."""
        server = self._server(address)
        for name, tokens in control_tokens.items():
            spec = self._pool_of[address].spec.model(name)
            assert spec is not None, "only models of the pool are asked"
            server.models[name] = replace(spec, markers=spec.markers | tokens)
        server.health = server.health.answered(ready_models)
        self._tell()

    def failed(self, address: ServerAddress) -> None:
        """A health check or a request got no answer in time."""
        server = self._server(address)
        server.health = server.health.failed(self._failures_until_down)

    def refused(self, address: ServerAddress) -> None:
        """A connection was refused or broke."""
        server = self._server(address)
        server.health = server.health.refused()

    def lost_model(self, placement: Placement) -> None:
        """The server does not have the model any more."""
        server = self._server(placement.server)
        server.health = server.health.lost_model(placement.model.triton_model)

    def health(self, address: ServerAddress) -> ServerHealth:
        """What is known of a server."""
        return self._server(address).health

    def set_draining(self, pool: str, draining: bool) -> PoolStatus:
        """Take a pool out of use, or put it back."""
        self._pool(pool).draining = draining
        self._tell()
        return self.status(pool)

    def status(self, pool: str) -> PoolStatus:
        """A pool as it is now."""
        return _status(self._pool(pool))

    def pools(self) -> list[PoolStatus]:
        """Every pool as it is now, in the order of the file."""
        return [_status(pool) for pool in self._pools.values()]

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _pool(self, name: str) -> _Pool:
        found = self._pools.get(name)
        if found is None:
            raise PoolNotFound(name)
        return found

    def _serving(self, model: str) -> list[_Pool]:
        found = [pool for pool in self._pools.values() if pool.spec.model(model) is not None]
        if not found:
            raise UnknownModel(model)
        return found

    def _candidate(self, pool: _Pool, model: str, avoid: Collection[ServerAddress]) -> _Candidate:
        usable = () if pool.state is not PoolState.ACTIVE else tuple(self._usable(pool, model, avoid))
        return _Candidate(pool, usable)

    def _usable(self, pool: _Pool, model: str, avoid: Collection[ServerAddress]) -> Iterator[Placement]:
        spec = pool.spec.model(model)
        assert spec is not None, "only pools that serve the model are asked"
        for address, server in pool.servers.items():
            if address not in avoid and server.health.can_run(spec.triton_model):
                yield Placement(pool.spec, address, server.models.get(model, spec))

    def _server(self, address: ServerAddress) -> _Server:
        return self._pool_of[address].servers[address]


def _status(pool: _Pool) -> PoolStatus:
    loaded = {name for server in pool.servers.values() if server.health.up for name in server.health.ready_models}
    ready = frozenset(model.name for model in pool.spec.models if model.triton_model in loaded)
    return PoolStatus(pool.spec, pool.state, pool.in_flight, pool.servers_up, ready)
