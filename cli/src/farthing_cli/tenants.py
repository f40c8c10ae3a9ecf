"""`farthing tenants`: brings keys, budgets and policies of a mesh to what a file says, and forgets a tenant."""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from farthing.accounting.v1 import budget_service_pb2 as pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1.budget_service_pb2_grpc import BudgetServiceStub
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceStub
from farthing.cache.v1 import cache_service_pb2 as cache_pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing_cli import keys
from farthing_cli.errors import CliError, refused
from farthing_cli.mesh import Mesh
from farthing_cli.money import dollars
from farthing_cli.tenants_file import SCOPES, WINDOWS, Owner, Tenant, read, slot
from farthing_kit.errors import FarthingError

TIMEOUT_S: Final = 15.0
MAX_IDEMPOTENCY_KEY_CHARS: Final = 128
ERASE_TIMEOUT_S: Final = 600.0
MAX_SHOWN: Final = 5

Tell = Callable[[str], None]


def ignore(_: object) -> None:
    """Tell nobody."""


async def apply(
    mesh: Mesh, path: Path, *, show: keys.Show = ignore, tell: Tell = ignore, prune: bool = False
) -> dict[str, str]:
    """Make it so. Each key that is made now is shown at once, and returned: the first of an organisation under its
    name, others under ORG/TEAM/USER. What is on the mesh and not in the file is told; budgets of that kind are lifted
    with `prune`. Applied again, it does again what did not come true, and nothing twice."""
    made: dict[str, str] = {}

    def shown(key: keys.NewKey) -> None:
        show(key)
        made[name_of(key, made)] = key.api_key

    tenants = read(path)
    async with mesh.as_operator() as opened:
        for tenant in tenants:
            with _named(tenant.org):
                await _set_limits(opened, tenant)
                for owner in tenant.keys:
                    await _make_key(opened, tenant.org, owner, shown, tell)
                await _left_over(opened, tenant, tell, prune=prune)
    return made


async def erase(mesh: Mesh, org: str) -> str:
    """In accounting first: its keys end there, so that the cache is not filled again. What was erased, in words."""
    async with mesh.as_operator("cache") as cache, mesh.as_operator() as accounting:
        request = key_pb.EraseTenantRequest(org=org)
        books = await KeyServiceStub(accounting).EraseTenant(request, timeout=ERASE_TIMEOUT_S)
        entries = await CacheServiceStub(cache).Erase(cache_pb.EraseRequest(org=org), timeout=ERASE_TIMEOUT_S)
    return (
        f"{org} is forgotten: {books.keys} API keys, the names in {books.usage_events} usage events, {entries.keys}"
        " entries of the cache; erase it again in an hour: what was in flight is booked with its names"
    )


def name_of(key: keys.NewKey, taken: dict[str, str]) -> str:
    """A name for a key that no other has: its organisation, or ORG/TEAM/USER, or that with a number."""
    long = f"{key.org}/{key.team}/{key.user}"
    numbered = (f"{long}/{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (key.org, long, *numbered) if name not in taken)


@contextmanager
def _named(org: str) -> Iterator[None]:
    """An error says which tenant it is about; those before it in the file are done."""
    try:
        yield
    except FarthingError as error:
        raise CliError(f"{org}: {refused(error)}; mend it and apply again, nothing is done twice") from None


async def _set_limits(opened: grpc.aio.Channel, tenant: Tenant) -> None:
    stub = BudgetServiceStub(opened)
    if tenant.policy is not None:
        set_policy = pb.SetPolicyRequest(org=tenant.org, policy=tenant.policy, idempotency_key=str(uuid.uuid4()))
        await stub.SetPolicy(set_policy, timeout=TIMEOUT_S)
    for budget in tenant.budgets:
        await _set_budget(stub, budget)


async def _set_budget(stub: BudgetServiceStub, budget: pb.Budget) -> None:
    await stub.SetBudget(pb.SetBudgetRequest(budget=budget, idempotency_key=str(uuid.uuid4())), timeout=TIMEOUT_S)


async def _make_key(opened: grpc.aio.Channel, org: str, owner: Owner, show: keys.Show, tell: Tell) -> None:
    request = key_pb.CreateKeyRequest(
        org=org, team=owner.team, user=owner.user, idempotency_key=_idempotency_key(org, owner)
    )
    earlier = await keys.make(opened, request, show)
    if earlier is None:
        return
    whose = f"the key {earlier.principal.key_id} of {keys.whose(org, owner.team, owner.user)}"
    if earlier.HasField("revoke_time"):
        tell(f"{whose} was revoked {keys.moment(earlier.revoke_time)}; make another: farthing keys create {org}")
    else:
        tell(f"{whose} was made {keys.moment(earlier.create_time)} and cannot be shown again")


def _idempotency_key(org: str, owner: Owner) -> str:
    """Each combination in a file gets one key, once."""
    name = f"tenants-file:{org}:{owner.team}:{owner.user}"
    if len(name) <= MAX_IDEMPOTENCY_KEY_CHARS and name.isprintable():
        return name
    return f"tenants-file:{hashlib.sha256(name.encode()).hexdigest()}"


async def _left_over(opened: grpc.aio.Channel, tenant: Tenant, tell: Tell, *, prune: bool) -> None:
    """What the organisation has and the file does not name: it stays, but for budgets that are to be lifted."""
    await _keys_left_over(opened, tenant, tell)
    stub = BudgetServiceStub(opened)
    wanted = {slot(budget) for budget in tenant.budgets}
    for state in (await stub.ListBudgets(pb.ListBudgetsRequest(org=tenant.org), timeout=TIMEOUT_S)).budgets:
        budget = state.budget
        if slot(budget) in wanted:
            continue
        if prune:
            await _set_budget(stub, pb.Budget(scope=budget.scope, window=budget.window))
            tell(f"{tenant.org}: lifted the budget {described(budget)}, which the file does not name")
        else:
            tell(
                f"{tenant.org}: the budget {described(budget)} is not in the file and still holds; "
                "lift it with --prune, or name it in the file"
            )


async def _keys_left_over(opened: grpc.aio.Channel, tenant: Tenant, tell: Tell) -> None:
    """Keys are for people, who would stand before a closed door: they are named, and ended by hand."""
    if not tenant.keys:
        return
    listed = await KeyServiceStub(opened).ListKeys(key_pb.ListKeysRequest(org=tenant.org), timeout=TIMEOUT_S)
    owners = [key.principal for key in listed.keys if not key.HasField("revoke_time")]
    ids = [owner.key_id for owner in owners if Owner(owner.team, owner.user) not in tenant.keys]
    if ids:
        shown = ", ".join(ids[:MAX_SHOWN]) + (", …" if len(ids) > MAX_SHOWN else "")
        tell(
            f"{tenant.org}: the file does not name {len(ids)} of its keys: {shown}; "
            f"see them with farthing keys list {tenant.org}, end one with farthing keys revoke ID"
        )


def described(budget: pb.Budget) -> str:
    """A budget in the words of the file, such as "team:search a month: $20.00"."""
    kind = next(word for word, number in SCOPES.items() if number == budget.scope.kind)
    window = next(word for word, number in WINDOWS.items() if number == budget.window)
    limits = [
        *([dollars(budget.limit.nano_units)] if budget.HasField("limit") else []),
        *([f"{budget.limit_tokens:,} tokens"] if budget.HasField("limit_tokens") else []),
        *([f"{budget.limit_concurrency:,} at once"] if budget.HasField("limit_concurrency") else []),
    ]
    scope = f"{kind}:{budget.scope.id}" if budget.scope.id else kind
    return f"{scope} a {window}: {', '.join(limits)}"
