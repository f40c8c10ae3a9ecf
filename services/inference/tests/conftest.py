"""Fixtures: a real Triton with the local models that these tests need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing_inference.domain.pools import ServerAddress
from farthing_kit.local.triton import Triton


@pytest.fixture(scope="session")
def triton(servers_dir: Path) -> Iterator[Triton]:
    """The Triton of this run."""
    server = Triton(["echo", "echo-slow", "small"], log=servers_dir / "triton.log")
    asyncio.run(server.start())
    yield server
    server.process.stop_now()


@pytest.fixture
def address(triton: Triton) -> ServerAddress:
    """Where it listens."""
    return ServerAddress(triton.address)
