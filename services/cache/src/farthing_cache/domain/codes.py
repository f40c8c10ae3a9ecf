"""Codes of vectors: on which side of random planes they lie.

Whatever the vectors are, two of them lie on different sides of angle / π of all planes. So those that are far apart are
told by counting bits, at a twelfth of the bytes that comparing them takes, and a limit says which share of near ones
that loses.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.neighbours import Floats, Int8s

Words = npt.NDArray[np.uint64]

# 64 planes each. The first ones are read of every row, the others of those that they leave.
FIRST_WORDS: Final = 3
WORDS: Final = 6
WORD_BITS: Final = 64
# Share of the rows at the floor itself that one limit may lose; of those that are nearer, far fewer.
LOST: Final = 1e-3


def codes(vectors: Int8s) -> Words:
    """A row of words for each vector."""
    sides = vectors.astype(np.float32) @ _planes(vectors.shape[1]) > 0
    return np.packbits(sides, axis=1).view(np.uint64)


@lru_cache(maxsize=256)
def most_apart(words: int, floor: float) -> int:
    """In how many bits of so many words two vectors may differ whose cosine is at least the floor."""
    apart = math.acos(min(1.0, max(-1.0, floor))) / math.pi
    bits, within = words * WORD_BITS, 0.0
    for different in range(bits):
        within += math.comb(bits, different) * apart**different * (1 - apart) ** (bits - different)
        if within >= 1 - LOST:
            return different
    return bits


@lru_cache(maxsize=4)
def _planes(dimension: int) -> Floats:
    """The same in every replica, though no code leaves one."""
    dice = np.random.default_rng(dimension)
    return dice.standard_normal((dimension, WORDS * WORD_BITS), dtype=np.float32)
