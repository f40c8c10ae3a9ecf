"""Accounting as operators see it, in memory behind a real server, and the command as a process that talks to it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1.budget_service_pb2_grpc import (
    BudgetServiceServicer,
    add_BudgetServiceServicer_to_server,
)
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceServicer, add_KeyServiceServicer_to_server
from farthing.type.v1.principal_pb2 import Principal
from farthing_cli.mesh import Mesh
from farthing_cli.state import StateFolder
from farthing_cli.tenants_file import slot
from farthing_kit.errors import FarthingError, NotFound
from farthing_kit.server import MESH_ONLY, Service
from farthing_kit.testing.server import serving
from farthing_kit.testing.settings import TEST_SECRET


@dataclass
class Accounting(KeyServiceServicer, BudgetServiceServicer):
    """Keys and budgets. What is in `fails` is raised by the call with that number, from 1."""

    keys: dict[str, key_pb.Key] = field(default_factory=dict)  # by idempotency key
    budgets: dict[tuple[str, object], budget_pb.Budget] = field(default_factory=dict)
    fails: dict[int, FarthingError] = field(default_factory=dict)
    calls: int = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    async def CreateKey(self, request: key_pb.CreateKeyRequest, context: Any) -> key_pb.CreateKeyResponse:
        self._count()
        if request.idempotency_key in self.keys:
            return key_pb.CreateKeyResponse(key=self.keys[request.idempotency_key])
        owner = Principal(org=request.org, team=request.team, user=request.user, key_id=f"k_{len(self.keys)}")
        key = self.keys[request.idempotency_key] = key_pb.Key(principal=owner)
        self.called.set()
        await self.go_on.wait()
        return key_pb.CreateKeyResponse(key=key, api_key=f"fk_{owner.key_id}_secret")

    async def ListKeys(self, request: key_pb.ListKeysRequest, context: Any) -> key_pb.ListKeysResponse:
        return key_pb.ListKeysResponse(keys=[key for key in self.keys.values() if key.principal.org == request.org])

    async def RevokeKey(self, request: key_pb.RevokeKeyRequest, context: Any) -> key_pb.RevokeKeyResponse:
        found = next((key for key in self.keys.values() if key.principal.key_id == request.key_id), None)
        if found is None:
            raise NotFound(f"there is no key {request.key_id}")
        found.revoke_time.GetCurrentTime()
        return key_pb.RevokeKeyResponse(key=found)

    async def EraseTenant(self, request: key_pb.EraseTenantRequest, context: Any) -> key_pb.EraseTenantResponse:
        gone = [name for name, key in self.keys.items() if key.principal.org == request.org]
        for name in gone:
            del self.keys[name]
        return key_pb.EraseTenantResponse(keys=len(gone))

    async def SetPolicy(self, request: budget_pb.SetPolicyRequest, context: Any) -> budget_pb.SetPolicyResponse:
        self._count()
        return budget_pb.SetPolicyResponse(policy=request.policy)

    async def SetBudget(self, request: budget_pb.SetBudgetRequest, context: Any) -> budget_pb.SetBudgetResponse:
        self._count()
        self.budgets[request.budget.scope.org, slot(request.budget)] = request.budget
        return budget_pb.SetBudgetResponse(budget=request.budget)

    async def ListBudgets(self, request: budget_pb.ListBudgetsRequest, context: Any) -> budget_pb.ListBudgetsResponse:
        found = [budget for (org, _), budget in self.budgets.items() if org == request.org and limits(budget)]
        return budget_pb.ListBudgetsResponse(budgets=[budget_pb.BudgetState(budget=budget) for budget in found])

    def _count(self) -> None:
        self.calls += 1
        if self.calls in self.fails:
            raise self.fails[self.calls]


def limits(budget: budget_pb.Budget) -> bool:
    """Whether the budget limits anything."""
    return any(budget.HasField(name) for name in ("limit", "limit_tokens", "limit_concurrency"))


@dataclass
class Running:
    """A running accounting, and how to reach it."""

    accounting: Accounting
    mesh: Mesh
    environment: dict[str, str]

    async def farthing(self, *words: str, **options: Any) -> asyncio.subprocess.Process:
        """Start the command."""
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options}
        command = [sys.executable, "-m", "farthing_cli", "--state", str(self.mesh.state.path), *words]
        return await asyncio.create_subprocess_exec(*command, env={**os.environ, **self.environment}, **pipes)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """Serve an accounting while the block runs."""
    secret = folder / "mesh-secret"
    secret.write_bytes(TEST_SECRET)
    accounting = Accounting()
    services = (
        Service("farthing.accounting.v1.KeyService", add_KeyServiceServicer_to_server, accounting, MESH_ONLY),
        Service("farthing.accounting.v1.BudgetService", add_BudgetServiceServicer_to_server, accounting, MESH_ONLY),
    )
    async with serving(*services) as server:
        mesh = Mesh(None, server.target, secret, StateFolder(folder / "state"))
        environment = {"FARTHING_ACCOUNTING": server.target, "FARTHING_MESH_SECRET_FILE": str(secret)}
        yield Running(accounting, mesh, environment)
