"""A revoked key: once RevokeKey has answered, no gateway that hears NATS serves it."""

from __future__ import annotations

import asyncio

from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli import tenants
from farthing_cli.generation import Gateway
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from tests.support.mesh import MeshUnderTest, prompt

ORG = "revoked"
TENANT = f"""
[[tenant]]
org = "{ORG}"
[tenant.policy]
default_tier = "small"
max_output_tokens = 256
[[tenant.key]]
team = "t"
"""


async def reason(gateway: Gateway) -> int:
    try:
        await gateway.ask(prompt("is the key good?"))
    except FarthingError as error:
        return error.reason
    return ErrorReason.ERROR_REASON_UNSPECIFIED


async def test_once_a_key_is_revoked_no_gateway_serves_it(mesh: MeshUnderTest) -> None:
    file = mesh.folder.path / f"{ORG}.toml"
    file.write_text(TENANT)
    key = (await tenants.apply(mesh.client, file))[ORG]
    async with (
        mesh.another("gateway") as address,
        channel(mesh.address["gateway"]) as first,
        channel(address) as second,
        mesh.client.as_operator() as books,
    ):
        gateways = [Gateway(each, key, 60.0) for each in (first, second)]
        assert await asyncio.gather(*map(reason, gateways)) == [ErrorReason.ERROR_REASON_UNSPECIFIED] * 2
        keys = KeyServiceStub(books)
        (listed,) = (await keys.ListKeys(key_pb.ListKeysRequest(org=ORG))).keys
        await keys.RevokeKey(key_pb.RevokeKeyRequest(key_id=listed.principal.key_id))
        assert await asyncio.gather(*map(reason, gateways)) == [ErrorReason.ERROR_REASON_KEY_REVOKED] * 2
