"""One mesh for all end-to-end tests that do not break it, and one each for those that do."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.mesh import MeshUnderTest

HERE = Path(__file__).parent


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(servers_dir: Path) -> AsyncIterator[MeshUnderTest]:
    """A mesh with the model that echoes; shared, so leave it as it was."""
    async with MeshUnderTest(servers_dir / "mesh") as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the shared mesh run in its loop."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and inspect.iscoroutinefunction(item.function)
            and HERE in item.path.parents
        ):
            # before the one that auto mode has added, which would win
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
