"""Numbers that people write, in options, settings and files: finite, inside bounds, or refused in words that say what
they must be."""

from __future__ import annotations

import math
import re
from typing import Final

_SHOWN_CHARS: Final = 40
_WHOLE: Final = re.compile(r"[+-]?[0-9](?:_?[0-9])*", re.ASCII)
_MAX_DIGITS: Final = 100


def number(raw: object, least: float, most: float, *, inside: bool = False) -> float:
    """A finite number from `least` to `most`; `inside`: neither of the two. From a text, or from what a file of JSON or
    TOML holds, where true is no number. ValueError for all else; its text stands behind the name of the field."""
    value = _float(raw)
    if value is None or not math.isfinite(value):
        raise ValueError(f"is {quoted(raw)}, must be a number {_range(least, most, inside)}")
    if not least <= value <= most or (inside and value in (least, most)):
        raise ValueError(f"is {quoted(raw)}, must be {_range(least, most, inside)}")
    return value


def whole(raw: object, least: int, most: int) -> int:
    """A whole number from `least` to `most`, as `number` reads it. ValueError for all else."""
    value = _int(raw)
    if value is None:
        raise ValueError(f"is {quoted(raw)}, must be a whole number {_range(least, most)}")
    if not least <= value <= most:
        raise ValueError(f"is {quoted(raw)}, must be {_range(least, most)}")
    return value


def quoted(raw: object) -> str:
    """What was written, on one line and not too long of it, for an error."""
    try:
        text = repr(raw)
    except ValueError:  # Python does not write whole numbers of thousands of digits
        text = "a huge number"
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def _float(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    try:
        return float(raw)
    except (ValueError, OverflowError):
        return None


def _int(raw: object) -> int | None:
    if isinstance(raw, str):
        text = raw.strip()
        return int(text) if len(text) <= _MAX_DIGITS and _WHOLE.fullmatch(text) else None
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def _range(least: float, most: float, inside: bool = False) -> str:
    return f"above {least:,} and below {most:,}" if inside else f"from {least:,} to {most:,}"
