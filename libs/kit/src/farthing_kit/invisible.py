"""Which characters nobody sees."""

from __future__ import annotations

import re
from typing import Final

# White space, control characters, and what Unicode calls default ignorable: fillers, joiners, marks of direction,
# variation selectors, tags. The blank pattern of Braille is not in that list, and shows nothing either.
_INVISIBLE: Final = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]*"
)


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or has invisible characters only."""
    return _INVISIBLE.fullmatch(text) is not None
