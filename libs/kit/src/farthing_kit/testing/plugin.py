"""Pytest fixtures: one real Redis, NATS and PostgreSQL for the whole run, empty for each test that asks.

Loaded by itself wherever the kit is installed (an entry point); it starts nothing until a fixture is asked for.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from farthing_kit.local.collector import Collector
    from farthing_kit.local.nats import Nats
    from farthing_kit.local.postgres import Postgres
    from farthing_kit.local.redis import Redis
    from farthing_kit.testing.clock import VirtualClock

T = TypeVar("T")


def pytest_configure() -> None:
    """Examples of a property may take as long as the machine is busy: speed is measured in benches, not in tests."""
    try:
        from hypothesis import settings
    except ImportError:
        return  # a member that tests no properties
    settings.register_profile("farthing", deadline=None)
    settings.load_profile("farthing")


@pytest.fixture(scope="session")
def servers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the real servers of this run keep their state and logs."""
    folder = tmp_path_factory.mktemp("servers")
    # PostgreSQL runs as another user when the tests run as root.
    for path in (folder, *list(folder.parents)[:2]):
        path.chmod(path.stat().st_mode | 0o011)
    return folder


@pytest.fixture(scope="session")
def redis_server(servers_dir: Path) -> Iterator[Redis]:
    """The Redis of this run."""
    from farthing_kit.local.redis import Redis

    server = Redis(servers_dir / "redis", log=servers_dir / "redis.log", durable=False)
    _wait(server.start())
    yield server
    server.process.stop_now()


@pytest.fixture(scope="session")
def nats_server(servers_dir: Path) -> Iterator[Nats]:
    """The NATS of this run."""
    from farthing_kit.local.nats import Nats

    server = Nats(servers_dir / "nats", log=servers_dir / "nats.log")
    _wait(server.start())
    yield server
    server.process.stop_now()


@pytest.fixture(scope="session")
def postgres_server(servers_dir: Path) -> Iterator[Postgres]:
    """The PostgreSQL of this run."""
    from farthing_kit.local.postgres import Postgres

    server = Postgres(servers_dir / "postgres", log=servers_dir / "postgres.log", durable=False)
    _wait(server.start())
    yield server
    server.process.stop_now()


@pytest.fixture(scope="session")
def collector(servers_dir: Path) -> Iterator[Collector]:
    """The OpenTelemetry collector of this run; its file grows over all tests: look for your own trace ids."""
    from farthing_kit.local.collector import Collector

    server = Collector(servers_dir / "collector", log=servers_dir / "collector.log")
    _wait(server.start())
    yield server
    server.process.stop_now()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """A real Redis that is empty when the test starts."""
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")
    return redis_server.url


@pytest.fixture
async def nats_url(nats_server: Nats) -> str:
    """A real NATS with JetStream that has no stream when the test starts."""
    from nats.aio.client import Client

    client = Client()
    await client.connect(nats_server.url)
    js = client.jetstream()
    for stream in await js.streams_info():
        assert stream.config.name is not None
        await js.delete_stream(stream.config.name)
    await client.close()
    return nats_server.url


@pytest.fixture
def postgres_dsn(postgres_server: Postgres) -> Iterator[str]:
    """A real PostgreSQL database of the test's own, dropped afterwards."""
    import psycopg

    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
        yield postgres_server.dsn(name)
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that the test moves."""
    from farthing_kit.testing.clock import VirtualClock

    return VirtualClock()


def _wait(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end outside any loop: session fixtures live longer than a test's loop."""
    return asyncio.run(work)
