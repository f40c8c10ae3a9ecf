"""How a command reaches a mesh: the one that runs here, or one that options and the environment name."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from farthing_cli.errors import CliError
from farthing_cli.state import StateFolder
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner, Principal, RequestContext, Role, new_request_id, use_context

DEFAULT_STATE = Path(".farthing")


@dataclass(frozen=True)
class Mesh:
    """Where the gateway and accounting listen, and what proves who asks."""

    gateway: str | None
    accounting: str | None
    mesh_secret_file: Path | None
    state: StateFolder
    classifier: str | None = None
    cache: str | None = None

    def require_gateway(self) -> str:
        """The address of the gateway."""
        if self.gateway is None:
            self.state.require_running()
            raise CliError("the mesh that runs here has no gateway yet; see `farthing status`")
        return self.gateway

    def api_key(self, org: str | None) -> str:
        """The API key to call with: FARTHING_API_KEY, or that of a demonstration tenant of the mesh that runs here."""
        if key := os.environ.get("FARTHING_API_KEY"):
            return key
        keys = self.state.keys()
        if not keys:
            raise CliError("no API key: set FARTHING_API_KEY, or start a mesh here (farthing up), which makes some")
        if org is None:
            return next(iter(keys.values()))
        if org not in keys:
            raise CliError(f"no key of {org!r} here; there are keys of {', '.join(sorted(keys))}")
        return keys[org]

    @asynccontextmanager
    async def as_operator(self, part: str = "accounting") -> AsyncIterator[grpc.aio.Channel]:
        """A channel to accounting, the gateway, the classifier or the cache, in the name of an operator: needs the
        secret of the mesh."""
        addresses = {
            "accounting": self.accounting,
            "gateway": self.gateway,
            "classifier": self.classifier,
            "cache": self.cache,
        }
        address = addresses[part]
        if address is None or self.mesh_secret_file is None:
            self.state.require_running()
            raise CliError(f"name {part} and the mesh's secret: FARTHING_{part.upper()}, FARTHING_MESH_SECRET_FILE")
        signer = ContextSigner(read_secret(self.mesh_secret_file))
        context = RequestContext(
            new_request_id(), Principal("operator", user=os.environ.get("USER", "")), Role.OPERATOR
        )
        with use_context(context):
            async with channel(address, signer=signer) as opened:
                yield opened


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the white space around it."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise CliError(f"cannot read the mesh's secret {path}: {error.strerror}") from None


def find(state: Path) -> Mesh:
    """The mesh to talk to: FARTHING_GATEWAY and FARTHING_ACCOUNTING, else the one that runs in the state folder."""
    folder = StateFolder(state)
    running = folder.running()
    addresses = running.addresses if running else {}
    secret = os.environ.get("FARTHING_MESH_SECRET_FILE")
    secret_file = Path(secret) if secret else folder.mesh_secret_file
    return Mesh(
        gateway=os.environ.get("FARTHING_GATEWAY") or addresses.get("gateway"),
        accounting=os.environ.get("FARTHING_ACCOUNTING") or addresses.get("accounting"),
        mesh_secret_file=secret_file if secret_file.exists() else None,
        state=folder,
        classifier=os.environ.get("FARTHING_CLASSIFIER") or addresses.get("classifier"),
        cache=os.environ.get("FARTHING_CACHE") or addresses.get("cache"),
    )
