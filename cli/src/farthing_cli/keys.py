"""API keys: made, listed, ended. A key is shown once, as soon as it exists: nobody can show it again."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from farthing.accounting.v1 import key_service_pb2 as pb
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli.console import Table, complain, say
from farthing_cli.errors import CliError
from farthing_cli.mesh import Mesh
from farthing_kit.errors import FarthingError
from farthing_kit.tasks import awaited

TIMEOUT_S: Final = 15.0
# With these the service says that it did nothing; after any other error a key may be there that nobody has seen.
NOTHING_MADE: Final = {
    ErrorReason.ERROR_REASON_INVALID_FIELD,
    ErrorReason.ERROR_REASON_IDEMPOTENCY_MISMATCH,
    ErrorReason.ERROR_REASON_PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_CONTEXT_INVALID,
}


@dataclass(frozen=True)
class NewKey:
    """A key that was made just now, with its secret."""

    org: str
    team: str
    user: str
    api_key: str = field(repr=False)

    def line(self) -> str:
        """How it is shown: ORG KEY, then whom it is for."""
        return " ".join([self.org, self.api_key, *_owner(self.team, self.user)])


Show = Callable[[NewKey], None]


def show(key: NewKey) -> None:
    """Print it; where standard output is closed or full, to standard error: it must not be lost."""
    try:
        say(key.line())
    except OSError:
        complain(key.line())
        raise


async def make(opened: grpc.aio.Channel, request: pb.CreateKeyRequest, show: Show) -> pb.Key | None:
    """Make a key and show it, whatever happens meanwhile: who is cancelled waits for the answer first, because the
    secret is in it and nowhere else. Returns the key of an earlier call with the same idempotency key, which is not
    shown again; None when it is new."""
    making = awaited("make a key", _make_and_show(opened, request, show))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await making
        raise


async def _make_and_show(opened: grpc.aio.Channel, request: pb.CreateKeyRequest, show: Show) -> pb.Key | None:
    try:
        response = await KeyServiceStub(opened).CreateKey(request, timeout=TIMEOUT_S)
    except FarthingError as error:
        if error.reason in NOTHING_MADE:
            raise
        raise CliError(
            f"{error.message}; it is not known whether the key of {whose(request.org, request.team, request.user)} was "
            f"made: look with `farthing keys list {request.org}`, end one that nobody has with `farthing keys revoke "
            "ID`, and make another with `farthing keys create`"
        ) from None
    if not response.api_key:
        return response.key
    show(NewKey(request.org, request.team, request.user, response.api_key))
    return None


async def create(mesh: Mesh, org: str, team: str, user: str) -> None:
    """Make one more key and show it."""
    request = pb.CreateKeyRequest(org=org, team=team, user=user, idempotency_key=str(uuid.uuid4()))
    async with mesh.as_operator() as opened:
        await make(opened, request, show)


async def of_org(mesh: Mesh, org: str) -> Sequence[pb.Key]:
    """The keys of an organisation, without their secrets, oldest first."""
    async with mesh.as_operator() as opened:
        return (await KeyServiceStub(opened).ListKeys(pb.ListKeysRequest(org=org), timeout=TIMEOUT_S)).keys


async def revoke(mesh: Mesh, key_id: str) -> pb.Key:
    """End a key; gateways that hear of it refuse it from then on."""
    async with mesh.as_operator() as opened:
        return (await KeyServiceStub(opened).RevokeKey(pb.RevokeKeyRequest(key_id=key_id), timeout=TIMEOUT_S)).key


def table(keys: Sequence[pb.Key]) -> Table:
    """One row for each key."""
    drawn = Table("id", "team", "user", "made", "ends", "revoked")
    for key in keys:
        owner, ends = key.principal, key.expire_time if key.HasField("expire_time") else None
        revoked = moment(key.revoke_time) if key.HasField("revoke_time") else ""
        drawn.add_row(
            owner.key_id, owner.team, owner.user, moment(key.create_time), moment(ends) if ends else "never", revoked
        )
    return drawn


def whose(org: str, team: str, user: str) -> str:
    """Whom a key is for, such as "acme team=search"."""
    return " ".join([org, *_owner(team, user)])


def moment(stamp: Timestamp) -> str:
    """A moment as people read it, in UTC."""
    return stamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M")


def _owner(team: str, user: str) -> list[str]:
    return [*([f"team={team}"] if team else []), *([f"user={user}"] if user else [])]
