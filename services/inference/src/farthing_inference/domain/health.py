"""Whether a server can be used: believed up until it fails, believed down until it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

FAILURES_UNTIL_DOWN = 3


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """What is known of one server. It starts as down: the first check comes before the first request."""

    up: bool = False
    failures: int = 0
    ready_models: frozenset[str] = frozenset()

    def answered(self, ready_models: frozenset[str]) -> ServerHealth:
        """A check came back: one is enough. A server that answers and has no model ready is of no use yet."""
        return ServerHealth(up=bool(ready_models), ready_models=ready_models)

    def failed(self, limit: int = FAILURES_UNTIL_DOWN) -> ServerHealth:
        """A check, or a request, did not come back. One may be bad luck; `limit` in a row are not."""
        failures = self.failures + 1
        return replace(self, failures=failures, up=self.up and failures < limit)

    def refused(self) -> ServerHealth:
        """Nobody listens there, or the connection broke: no reason to lose more requests on it."""
        return replace(self, failures=self.failures + 1, up=False)

    def lost_model(self, triton_model: str) -> ServerHealth:
        """The server said that it does not have the model."""
        return replace(self, ready_models=self.ready_models - {triton_model})

    def can_run(self, triton_model: str) -> bool:
        """Whether the model can be asked for there."""
        return self.up and triton_model in self.ready_models
