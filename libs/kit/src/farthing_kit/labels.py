"""The one rule for labels: short texts that callers choose and others read in reports, such as tags and user names.

The door refuses what breaks it (`fault`); the books, where money must never be lost over a label, mend it
(`sanitised`). Text of every language is fine: words are written with joiners and marks of direction, and emoji are
joined by them. Refused is what breaks lines, runs the text around it backwards, or means nothing outside one machine.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Final

from farthing_kit.invisible import is_blank

MAX_TAGS: Final = 8
MAX_CHARS: Final = 64
MAX_NAME_CHARS: Final = 128
REPLACEMENT: Final = "\ufffd"

_KINDS: Final = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Co": "a character of private use",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_EMBEDDINGS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OTHERS: Final = {
    "\ufeff": "a byte order mark",
    **dict.fromkeys(_EMBEDDINGS, "a change of direction"),
    **dict.fromkeys("\u206a\u206b\u206c\u206d\u206e\u206f\U000e0001", "a deprecated format character"),
    **dict.fromkeys("\ufff9\ufffa\ufffb", "a mark of annotation"),
}


def fault(text: str, *, most: int = MAX_CHARS, least: int = 1) -> str | None:
    """What keeps a text from being a label, in words behind the name of its field; None for a label.

    least: 0 where the label may be left empty.
    """
    if not least <= len(text) <= most:
        return f"has {len(text)} characters, must have {least} to {most}"
    if text.isascii() and text.isprintable():
        return "shows nothing, must have a character that can be seen" if text.isspace() else None
    for place, char in enumerate(text, start=1):
        kind = _refused(char)
        if kind is not None:
            return f"has U+{ord(char):04X}, {kind}, at place {place}, must have none"
    return "shows nothing, must have a character that can be seen" if text and is_blank(text) else None


def sanitised(text: str, *, most: int = MAX_CHARS, least: int = 1) -> str:
    """The label itself; what breaks the rule as the nearest label, with a replacement character (U+FFFD) wherever
    something was taken out. The result has no fault; sanitised again, it stays the same."""
    if fault(text, most=most, least=least) is None:
        return text
    kept = "".join(REPLACEMENT if _refused(char) else char for char in text[: most + 1])
    if len(kept) > most:
        kept = kept[: most - 1] + REPLACEMENT
    return REPLACEMENT if is_blank(kept) else kept


def escaped(text: str) -> str:
    """A text to show between others, whoever wrote it: what no label may have is written as JSON writes it, such as
    \\n or \\u202e, so that it breaks no line, table or terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(json.dumps(char)[1:-1] if _refused(char) else char for char in text)


def _refused(char: str) -> str | None:
    """What kind of character labels may not have this is; None for one that they may."""
    kind = _OTHERS.get(char) or _KINDS.get(unicodedata.category(char))
    return "no character of Unicode" if kind is None and _is_noncharacter(ord(char)) else kind


def _is_noncharacter(point: int) -> bool:
    return 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE
