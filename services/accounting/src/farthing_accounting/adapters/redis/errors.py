"""What Redis raises, as what callers can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

from farthing_kit.errors import StoreUnavailable

# Away, loading, read-only, out of memory, unable to write to its disk: to us it is all the same. An error in a script
# of ours is among them, named by `cause`: the books must go on without Redis in that case too.
_AWAY: Final = (RedisError, TimeoutError, OSError)


@contextmanager
def translated() -> Iterator[None]:
    """Every failure of Redis is StoreUnavailable. Its text stays here: it quotes keys and addresses."""
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailable(
            "the store of budgets cannot be reached; try again shortly",
            metadata={"store": "redis", "cause": type(error).__name__},
            retry_after_s=1.0,
        ) from error
