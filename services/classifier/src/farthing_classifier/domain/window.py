"""Long texts: what is cut where, so that the work for a prompt has a bound. The task is often in its last lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Up to this length a text is counted to the token; of a longer one only both ends are read, and the rest is estimated.
HEAD_CHARS: Final = 12_288
TAIL_CHARS: Final = 4_096
# Of the encoder's window, this part goes to the beginning of a text and the rest to its end.
HEAD_SHARE: Final = 0.75
CHARS_PER_TOKEN: Final = 4.0


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a text; `tail` is empty, and `hidden_chars` 0, when the head is all of it."""

    head: str
    tail: str
    hidden_chars: int

    @property
    def text(self) -> str:
        """What is read."""
        return f"{self.head}\n{self.tail}" if self.tail else self.head


def ends(text: str) -> Ends:
    """The part of a text that is read at all."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return Ends(text, "", 0)
    return Ends(text[:HEAD_CHARS], text[-TAIL_CHARS:], len(text) - HEAD_CHARS - TAIL_CHARS)


def fit(ids: Sequence[int], room: int) -> list[int]:
    """At most `room` of the tokens: all, or the first ones and the last ones."""
    if len(ids) <= room:
        return list(ids)
    head = round(room * HEAD_SHARE)
    return [*ids[:head], *ids[len(ids) - (room - head) :]]


def guess_tokens(text: str) -> int:
    """Tokens of a text that no tokenizer has seen: other scripts have about one for each character."""
    if text.isascii():
        return round(len(text) / CHARS_PER_TOKEN)
    ascii_chars = len(text.encode("ascii", "ignore"))
    return round(ascii_chars / CHARS_PER_TOKEN) + len(text) - ascii_chars


def estimate_tokens(read_tokens: int, read_chars: int, hidden_chars: int) -> int:
    """Tokens of a text of which `read_chars` characters were read: the rest is taken to be as dense."""
    if hidden_chars <= 0:
        return read_tokens
    density = read_tokens / read_chars if read_tokens and read_chars else 1 / CHARS_PER_TOKEN
    return read_tokens + round(hidden_chars * density)
