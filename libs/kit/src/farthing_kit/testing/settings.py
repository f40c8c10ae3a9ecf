"""Settings for servers that live inside a test."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from farthing_kit.config import Secret
from farthing_kit.settings import ServiceSettings

# Of the tests only: any 32 bytes do.
TEST_SECRET: Final = b"a mesh secret for tests, 32 bytes or more"

S = TypeVar("S", bound=ServiceSettings)


def settings(cls: type[S], **changes: Any) -> S:
    """A service's settings with the test secret, a free port and a short grace; `changes` on top."""
    values: dict[str, Any] = {"bind": "127.0.0.1:0", "mesh_secret": Secret(TEST_SECRET), "grace_ms": 2_000}
    return cls(**{**values, **changes})
