"""The rules of two peers, written again from their documentation and source, on the same encoder as ours.

Their own models come from a hub and are not used; what was published with those is beside (fow-cache 0.1.0, README).
"""

from collections.abc import Callable
from typing import Final

# GPTCache 0.1.44: `SearchDistanceEvaluation` ranks by 4 - L2², and serves at 0.8 of that range. For unit vectors
# L2² = 2 - 2 cos, so that 4 - L2² >= 3.2 is cos >= 0.6. By default only the last message is looked at.
GPTCACHE_MAX_DISTANCE: Final = 4.0
GPTCACHE_THRESHOLD: Final = 0.8
# RedisVL: `SemanticCache` serves within a cosine distance of 0.1.
REDISVL_DISTANCE: Final = 0.1

PUBLISHED: Final = {
    "gptcache": (0.81, 0.81),  # should-hit served, traps wrong
    "redisvl": (0.51, 0.11),
    "mpnet_090": (0.49, 0.27),
}


def gptcache(cosine: float) -> bool:
    """Whether GPTCache's default rule serves."""
    return GPTCACHE_MAX_DISTANCE - (2 - 2 * cosine) >= GPTCACHE_MAX_DISTANCE * GPTCACHE_THRESHOLD


def redisvl(cosine: float) -> bool:
    """Whether RedisVL's default rule serves."""
    return 1 - cosine <= REDISVL_DISTANCE


RULES: Final[dict[str, Callable[[float], bool]]] = {"gptcache": gptcache, "redisvl": redisvl}
