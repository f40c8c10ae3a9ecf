"""The texts that a model's tokenizer reads as one token with a meaning of its own, and how a message is kept free of
them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

ZERO_WIDTH_SPACE: Final = "\u200b"
_DIGITS: Final = re.compile(r"[0-9]+")


class Markers:
    """A set of such texts. Vocabularies keep thousands that differ in a number only ("<unused0>", "<unused1>", …):
    those count as one, with any number, so that the pattern is short and looking takes time in proportion to the text.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.tokens = frozenset(token for token in tokens if token)
        forms = {_DIGITS.sub("[0-9]+", re.escape(token)) for token in self.tokens}
        firsts = "".join(sorted({re.escape(token[0]) for token in self.tokens}))
        # Lookaheads, so that markers inside of others are found too: a gap comes behind the first character of each.
        self._begin = re.compile(f"(?=[{firsts}])(?={'|'.join(sorted(forms))})(.)", re.DOTALL) if forms else None

    def __or__(self, more: Iterable[str]) -> Markers:
        return Markers((*self.tokens, *more))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Markers) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def broken_up(self, text: str) -> str:
        """The text as ordinary words: no marker is left in it. People see no difference, models a small one."""
        return text if self._begin is None else self._begin.sub(self._gap, text)

    def _gap(self, found: re.Match[str]) -> str:
        """What is one character long has no inside to break: it gives way to the gap."""
        return ZERO_WIDTH_SPACE if found[1] in self.tokens else found[1] + ZERO_WIDTH_SPACE
