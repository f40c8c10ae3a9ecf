"""What Redis raises, as what callers can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import exceptions

from farthing_kit.errors import StoreUnavailable

_AWAY: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    TimeoutError,
    OSError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Redis that cannot be reached, is loading, read-only or out of memory: StoreUnavailable. Defects pass."""
    try:
        yield
    except _AWAY as error:
        raise _unavailable(type(error).__name__) from error
    except exceptions.ResponseError as error:
        if str(error).startswith("MISCONF"):
            raise _unavailable("cannot persist") from error
        raise


def _unavailable(cause: str) -> StoreUnavailable:
    return StoreUnavailable(
        "the store of budgets cannot be reached; try again shortly",
        metadata={"store": "redis", "cause": cause},
        retry_after_s=1.0,
    )
