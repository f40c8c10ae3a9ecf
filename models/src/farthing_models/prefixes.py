"""What somebody may put before a prompt to push its judgement: the heads are fitted on such prompts too."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Final

from farthing_classifier.domain import ngrams

# Every so many-th prompt has a prefix.
EVERY: Final = 2
VOCABULARY_TEXTS: Final = 3_000
_WORDS: Final = (3, 12)
_LETTERS: Final = (3, 8)


def put_before(texts: Sequence[str], seed: int) -> list[str]:
    """The texts, every other one behind words of other texts, or behind random letters."""
    chance = random.Random(seed)
    drawn = chance.sample(list(texts), min(len(texts), VOCABULARY_TEXTS))
    words = [ngrams.words(text) for text in drawn]
    return [f"{_prefix(words, chance)} {text}" if number % EVERY == 0 else text for number, text in enumerate(texts)]


def _prefix(texts: Sequence[Sequence[str]], chance: random.Random) -> str:
    """Words from anywhere, a run of words of one text, or letters."""
    count, kind = chance.randint(*_WORDS), chance.random()
    if kind < 0.5:
        return " ".join(chance.choice(chance.choice(texts) or ["so"]) for _ in range(count))
    if kind < 0.8:
        run = chance.choice(texts)
        start = chance.randrange(max(1, len(run) - count))
        return " ".join(run[start : start + count])
    return " ".join("".join(chance.choices(string.ascii_lowercase, k=chance.randint(*_LETTERS))) for _ in range(count))
