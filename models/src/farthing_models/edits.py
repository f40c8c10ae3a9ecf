"""Harmless edits: what people write differently and mean alike. None of them may move a prompt to another tier."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

_WORD: Final = re.compile(r"\b[a-zA-Z]{5,}\b")
_GREETINGS: Final = (
    "Hi, could you please answer this question: ",
    "Hello! ",
    "Good morning, can you help me with this: ",
)


def lower(text: str, chance: random.Random) -> str:
    """Without capitals, as many people type. Options keep theirs: they are names."""
    del chance
    return re.sub(r"[^\n]+", lambda line: line[0] if _is_option(line[0]) else line[0].lower(), text)


def typo(text: str, chance: random.Random) -> str:
    """Two neighbouring letters exchanged within one word of five letters or more; in longer texts one in 40 words."""
    words = list(_WORD.finditer(text))
    for found in chance.sample(words, min(len(words), max(1, len(words) // 40))):
        at = found.start() + chance.randrange(1, len(found[0]) - 2)
        text = f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}"
    return text


def greeting(text: str, chance: random.Random) -> str:
    """A greeting or a plea before it."""
    return chance.choice(_GREETINGS) + text


def thanks(text: str, chance: random.Random) -> str:
    """Thanks after it."""
    return text + chance.choice((" Thanks!", " Thank you in advance.", " please"))


def spaces(text: str, chance: random.Random) -> str:
    """Blanks doubled here and there, and a line at the end."""
    return re.sub(r" ", lambda _: "  " if chance.random() < 0.2 else " ", text) + "\n"


def quotes(text: str, chance: random.Random) -> str:
    """Typographic quotes and apostrophes."""
    del chance
    return text.replace("'", "\u2019")


def end_mark(text: str, chance: random.Random) -> str:
    """The last question mark or full stop forgotten."""
    del chance
    return text.rstrip().rstrip("?.")


EDITS: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "case": lower,
    "typo": typo,
    "greeting": greeting,
    "thanks": thanks,
    "spaces": spaces,
    "quotes": quotes,
    "end_mark": end_mark,
}


def _is_option(line: str) -> bool:
    return re.match(r"\s*[A-H][.):]\s", line) is not None or line.strip() == "Answer:"
