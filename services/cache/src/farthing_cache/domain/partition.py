"""The vectors of one partition in memory: which rows there are, and which of them are near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from farthing_cache.domain.answer import Epoch
from farthing_cache.domain.block import CODE_BYTES, Block, Numbers
from farthing_cache.domain.codes import Words, codes
from farthing_cache.domain.neighbours import Floats, Int8s, Rows

# Share of a full partition that is dropped at once: choosing costs a look at every row.
_TRIM: Final = 0.1
# Share of a block below which its rows are moved, so that what is dropped gives memory back.
_LEFT: Final = 0.75

Hit = tuple[Block, int]


class Partition:
    """Rows in blocks. Every step takes milliseconds, however many there are: nothing is built, and at most one block
    is moved. A row is not found after its end; of rows of one entry, which come of keeping it again, one is left once
    they are found. Of more rows than `limit_bytes` hold, those of the least worth go."""

    def __init__(self, epoch: Epoch, limit_bytes: int) -> None:
        self.epoch = epoch
        self.read_to = "0"
        self.earned = 0.0
        self._limit_bytes = limit_bytes
        self._dimension = 0
        self._blocks: list[Block] = []
        self._turn = 0

    def __len__(self) -> int:
        return sum(block.left for block in self._blocks)

    @property
    def size_bytes(self) -> int:
        """The memory it takes."""
        return sum(block.size_bytes for block in self._blocks)

    def add(self, rows: Rows, now_ms: int) -> None:
        """Take rows of the log, oldest first."""
        rows = rows.at(rows.ends_ms > now_ms)
        if not len(rows):
            return
        dimension = rows.vectors.shape[1]
        if dimension != (self._dimension or dimension):
            return
        self._dimension = dimension
        self._append(rows, codes(rows.vectors))
        self._tidy(now_ms)
        limit = max(1, int(self._limit_bytes * _LEFT / (Rows.bytes_each(dimension) + CODE_BYTES)))
        if len(self) > limit:
            self._trim(len(self) - limit + int(limit * _TRIM))

    def drop(self, ids: Sequence[bytes]) -> None:
        """Forget some rows, where they are here."""
        for block in self._blocks:
            for one in ids:
                block.drop(block.rows.of(one))

    def near(self, vector: Int8s, count: int, floor: float, min_tier: int, now_ms: int) -> list[bytes]:
        """The ids of the nearest rows at or above a cosine that have not ended and are of a high enough tier."""
        if len(vector) != self._dimension or not self._blocks:
            return []
        found: dict[bytes, Hit] = {}
        for block, number in self._ranked(vector, floor, min_tier, now_ms):
            one = block.rows.id(number)
            if one in found:
                found[one] = _later(found[one], (block, number))
            elif len(found) < count:
                found[one] = (block, number)
            else:
                break
        return list(found)

    def _ranked(self, vector: Int8s, floor: float, min_tier: int, now_ms: int) -> Iterator[Hit]:
        """Rows at or above a cosine, the nearest first."""
        words = codes(vector[None])[0]
        found = [block.search(words, floor, min_tier, now_ms) for block in self._blocks]
        vectors = [block.rows.vectors[numbers] for block, numbers in zip(self._blocks, found, strict=True)]
        cosines = _cosines(vector, np.concatenate(vectors))
        numbers, places = np.concatenate(found), np.repeat(np.arange(len(found)), [len(each) for each in found])
        for at in np.argsort(-cosines, kind="stable"):
            if cosines[at] < floor:
                return
            yield self._blocks[places[at]], int(numbers[at])

    def _append(self, rows: Rows, words: Words) -> None:
        while len(rows):
            last = self._blocks[-1] if self._blocks else None
            if last is None or last.full:
                last = Block(self._dimension, last)
                self._blocks.append(last)
            taken = last.take(rows, words)
            rows, words = rows.at(slice(taken, None)), words[taken:]

    def _tidy(self, now_ms: int) -> None:
        """See what has ended in one block, each in its turn; move the rest of the block that has least left."""
        self._turn = (self._turn + 1) % len(self._blocks)
        self._blocks[self._turn].expire(now_ms)
        least = min(self._blocks, key=lambda block: block.left / block.count)
        if least.left < least.count * _LEFT:
            self._blocks.remove(least)
            self._append(*least.remaining())

    def _trim(self, surplus: int) -> None:
        """Drop those of the least worth; of equal worth, those that are kept the longest."""
        left = [np.flatnonzero(block.rows.ends_ms) for block in self._blocks]
        worth = np.concatenate([block.rows.worth[numbers] for block, numbers in zip(self._blocks, left, strict=True)])
        cut = np.partition(worth, surplus - 1)[surplus - 1]
        equal = surplus - int(np.count_nonzero(worth < cut))
        for block, numbers in zip(self._blocks, left, strict=True):
            worths = block.rows.worth[numbers]
            ties: Numbers = np.flatnonzero(worths == cut)[:equal]
            equal -= len(ties)
            block.drop(numbers[np.concatenate([np.flatnonzero(worths < cut), ties])])


def _later(one: Hit, other: Hit) -> Hit:
    """Of two rows of an entry the one that ends later; the other is dropped."""
    first, last = sorted((one, other), key=lambda hit: float(hit[0].rows.ends_ms[hit[1]]))
    first[0].drop(np.array([first[1]]))
    return last


def _cosines(vector: Int8s, others: Int8s) -> Floats:
    one, wide = vector.astype(np.float32), others.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide)) * np.linalg.norm(one)
    return np.asarray(wide @ one / np.maximum(lengths, 1.0), np.float32)
