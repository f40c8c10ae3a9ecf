"""How a command reaches a mesh: the one that runs here, or one that options and the environment name."""

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from farthing_cli.errors import ADDRESSES, CliError, InputError
from farthing_cli.state import StateFolder
from farthing_kit import labels, numbers
from farthing_kit.client import channel, target_of
from farthing_kit.context import ContextSigner, Principal, RequestContext, Role, new_request_id, use_context

DEFAULT_STATE = Path(".farthing")
# More than any key has, and less than gRPC takes as metadata: a longer one is answered as if the mesh were overloaded.
MAX_KEY_CHARS = 4096
MAX_PORT = 65_535
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)
_TARGET = re.compile(r"(?:dns|unix|unix-abstract|ipv4|ipv6):[!-~]+", re.ASCII)


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
        if key := os.environ.get("FARTHING_API_KEY", "").strip():
            return _sendable("FARTHING_API_KEY", key)
        keys = self.state.keys()
        if not keys:
            raise InputError("no API key: set FARTHING_API_KEY, or start a mesh here (farthing up), which makes some")
        if org is None:
            return _sendable(str(self.state.keys_file), next(iter(keys.values())))
        if org not in keys:
            raise InputError(f"no key of {org!r} here; there are keys of {', '.join(sorted(keys))}")
        return _sendable(str(self.state.keys_file), keys[org])

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
        signer = _signer(self.mesh_secret_file)
        user = labels.sanitised(os.environ.get("USER", ""), most=labels.MAX_NAME_CHARS, least=0)
        context = RequestContext(new_request_id(), Principal("operator", user=user), Role.OPERATOR)
        with use_context(context):
            async with channel(address, signer=signer) as opened:
                yield opened


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the white space around it."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"cannot read the mesh's secret {path}: {error.strerror}") from None


def _signer(secret_file: Path) -> ContextSigner:
    try:
        return ContextSigner(read_secret(secret_file))
    except ValueError as error:
        raise InputError(f"{secret_file}: {error}; name the secret that the services have") from None


def _sendable(source: str, key: str) -> str:
    try:
        return sendable(key)
    except ValueError as error:
        raise InputError(f"{source} {error}") from None


def sendable(key: str) -> str:
    """A key as gRPC can send it; ValueError for what is none, which is not shown: it may be most of one."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("holds no API key: it has a line break, a blank, or a character that is not ASCII")
    if len(key) > MAX_KEY_CHARS:
        raise ValueError(f"holds no API key: it has {len(key):,} characters, must have at most {MAX_KEY_CHARS:,}")
    return key


def find(state: Path) -> Mesh:
    """The mesh to talk to: FARTHING_GATEWAY and FARTHING_ACCOUNTING, else the one that runs in the state folder."""
    folder = StateFolder(state)
    running = folder.running()
    addresses = running.addresses if running else {}
    secret = os.environ.get("FARTHING_MESH_SECRET_FILE")
    secret_file = Path(secret) if secret else folder.mesh_secret_file
    if secret and not secret_file.is_file():
        raise InputError(f"FARTHING_MESH_SECRET_FILE names {secret}, which is no file")
    return Mesh(
        gateway=_address("FARTHING_GATEWAY") or addresses.get("gateway"),
        accounting=_address("FARTHING_ACCOUNTING") or addresses.get("accounting"),
        mesh_secret_file=secret_file if secret_file.exists() else None,
        state=folder,
        classifier=_address("FARTHING_CLASSIFIER") or addresses.get("classifier"),
        cache=_address("FARTHING_CACHE") or addresses.get("cache"),
    )


def _address(variable: str) -> str | None:
    """Where the environment says that a part is; None when it says nothing."""
    text = os.environ.get(variable, "").strip()
    try:
        return address(text) if text else None
    except ValueError as error:
        raise InputError(f"{variable} {error}") from None


def address(text: str) -> str:
    """An address, or several with commas; ValueError for what is none."""
    if not _TARGET.fullmatch(text) and not all(_HOST_PORT.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError(f"is {numbers.quoted(text)}, must be HOST:PORT, such as 127.0.0.1:50051")
    target_of(text)
    if not _TARGET.fullmatch(text) and any(int(part.rpartition(":")[2]) > MAX_PORT for part in text.split(",")):
        raise ValueError(f"is {numbers.quoted(text)}, must have a port of at most {MAX_PORT}")
    return text


# What this command reads from the environment itself, and what must be true of it.
VARIABLES: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(ADDRESSES, address),
    "FARTHING_API_KEY": sendable,
}
