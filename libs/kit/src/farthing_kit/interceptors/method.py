"""One RPC method, as the steps around it see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from farthing_kit.context import Role

Admit = Callable[[Any], Awaitable[object]]
"""Refuses a call by its metadata, before anything of its message is read. Gets gRPC's context."""


@dataclass(frozen=True, slots=True)
class Method:
    """`roles` None: anyone, signed context or not, whom `admit` lets in. `long_lived`: a watch that may stay open for
    ever, and is not counted as load."""

    service: str
    name: str
    roles: frozenset[Role] | None
    long_lived: bool = False
    admit: Admit | None = None

    @property
    def full_name(self) -> str:
        """ "package.Service/Method": also the name of its spans."""
        return f"{self.service}/{self.name}"

    @property
    def path(self) -> str:
        """ "/package.Service/Method", as on the wire."""
        return f"/{self.service}/{self.name}"


def parse_path(path: str) -> tuple[str, str]:
    """The service and the method of a path."""
    service, _, name = path.lstrip("/").rpartition("/")
    return service, name
