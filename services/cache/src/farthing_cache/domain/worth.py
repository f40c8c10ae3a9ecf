"""What an entry is worth: the cost that it avoids, by the room that it takes."""

from __future__ import annotations

from typing import Final

# What an entry takes beside its text: names, counters, the places in Redis's tables. Measured: bench/caching.
OVERHEAD_BYTES: Final = 900
# Where nobody said what an answer cost: the order of the difference that matters is that of lengths.
DEFAULT_NANO_USD_PER_TOKEN: Final = 200


def cost_nano_usd(said: int, tokens: int) -> int:
    """What serving an answer again avoids."""
    return said if said > 0 else max(1, tokens) * DEFAULT_NANO_USD_PER_TOKEN


def value_per_byte(cost: int, size_bytes: int) -> float:
    """The value of one more hit, by size. An entry begins with one hit to come; each hit adds one."""
    return cost / (size_bytes + OVERHEAD_BYTES)
