"""What a replica has done since its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Numbers that only grow."""

    hits: int = 0
    misses: int = 0
    stores: int = 0
    invalidations: int = 0
    store_errors: int = 0
    semantic_hits: int = 0
    semantic_misses: int = 0
    led: int = 0
    followed: int = 0
    takeovers: int = 0
    evictions: int = 0
