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
