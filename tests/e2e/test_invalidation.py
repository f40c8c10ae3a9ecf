"""Who asks after an invalidation is never served what was begun before it: by no gateway, and by no way."""

import asyncio

import pytest

from farthing.cache.v1 import cache_service_pb2 as cache_pb
from farthing.cache.v1 import cache_service_pb2_grpc as cache_rpc
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_cli import tenants
from farthing_cli.generation import Gateway
from farthing_cli.mesh import read_secret
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner
from farthing_kit.testing.server import tenant_context
from tests.support.mesh import MeshUnderTest, prompt

NONE = model_pb2.CACHE_LEVEL_NONE
LONG = " ".join(f"word{number}" for number in range(60))
EXTENTS: dict[str, dict[str, object]] = {"tag": {"tags": ["docs"]}, "model": {"model": "echo-slow"}, "all": {}}
TENANT = """
[[tenant]]
org = "{org}"
[tenant.policy]
default_tier = "small"
max_output_tokens = 256
cache = true
[[tenant.key]]
team = "t"
"""


def asked(text: str) -> pb.Prompt:
    made = prompt(text, model="echo-slow", max_tokens=256)
    made.cache_control.tags.append("docs")
    return made


async def invalidate(mesh: MeshUnderTest, org: str, key: str, extent: dict[str, object]) -> None:
    signer = ContextSigner(read_secret(mesh.folder.mesh_secret_file))
    async with channel(mesh.address["cache"], signer=signer, identity=tenant_context(org)) as opened:
        request = cache_pb.InvalidateRequest(idempotency_key=key, **extent)  # type: ignore[arg-type]
        await cache_rpc.CacheServiceStub(opened).Invalidate(request)


async def gateways(mesh: MeshUnderTest, org: str, *addresses: str) -> list[Gateway]:
    file = mesh.folder.path / f"{org}.toml"
    file.write_text(TENANT.format(org=org))
    key = (await tenants.apply(mesh.client, file))[org]
    opened = [await mesh._stack.enter_async_context(channel(address)) for address in addresses]
    return [Gateway(each, key, 60.0) for each in opened]


async def until_near(gateway: Gateway, what: pb.Prompt) -> None:
    async with asyncio.timeout(30.0):
        while (await gateway.ask(what)).decision.cache_level != model_pb2.CACHE_LEVEL_NEAR:
            pass


@pytest.mark.parametrize("extent", EXTENTS)
async def test_who_asks_after_an_invalidation_gets_what_was_begun_after_it(mesh: MeshUnderTest, extent: str) -> None:
    org, said = f"forgets-{extent}", EXTENTS[extent]
    async with mesh.another("gateway") as address:
        first, second = await gateways(mesh, org, mesh.address["gateway"], address)

        # What is in the memory of both gateways, and in the cache.
        for gateway in (first, second):
            await until_near(gateway, asked("kept"))
        await invalidate(mesh, org, "i1", said)
        again = await asyncio.gather(*(gateway.ask(asked("kept")) for gateway in (first, second)))
        assert [bool(each.final.calls) for each in again].count(True) == 1

        # What is being made.
        begun = asyncio.Event()
        before = asyncio.create_task(first.ask(asked(LONG), lambda _: begun.set()))
        await begun.wait()
        await invalidate(mesh, org, "i2", said)
        after = await second.ask(asked(LONG))
        assert after.decision.cache_level == NONE
        assert after.final.calls
        # And what became of it: the answer that was begun before is kept nowhere.
        assert (await before).text == after.text == LONG
        await invalidate(mesh, org, "i3", said)
        last = await asyncio.gather(*(gateway.ask(asked(LONG)) for gateway in (first, second)))
        assert [bool(each.final.calls) for each in last].count(True) == 1
