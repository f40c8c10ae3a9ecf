"""How an answer is worded: does it decline, does it doubt itself, does it go round in circles."""

from __future__ import annotations

import re
import zlib
from typing import Final

# Refusals stand at the beginning, doubts anywhere in the first part.
OPENING_CHARS: Final = 400
READ_CHARS: Final = 8_192

# Loops show at the end, where a model got stuck.
TAIL_CHARS: Final = 4_096
MIN_LOOP_CHARS: Final = 240
# Prose compresses to 0.4 or more, lists and tables to 0.2; the same sentence ten times to 0.12.
LOOP_RATIO: Final = 0.12
MIN_LOOP_WORDS: Final = 40
LOOP_DISTINCT: Final = 0.3
_GRAM: Final = 4

_ABILITY: Final = (
    r"(?:can(?:no|['’])t|can ?not|could not|couldn['’]t|won['’]t|will not"
    r"|(?:am|['’]m) (?:not able|unable|not allowed|not going) to)"
)
_HELPING: Final = (
    r"(?:help|assist|provide|answer|comply|fulfil+|do (?:that|this)|create|write|generate|discuss|access|browse"
    r"|share|give|offer|support|engage|participate|produce|process|complete|continue|respond|translate|view|open"
    r"|determine|predict)"
)
_REFUSAL: Final = re.compile(
    rf"\bI {_ABILITY} (?:\w+ ){{0,3}}{_HELPING}\b"
    rf"|\bI['’]m (?:unable|not able) to (?:\w+ ){{0,2}}{_HELPING}\b"
    r"|\bas an? (?:\w+ ){0,2}(?:AI|language model)\b[^.\n]{0,80}"
    r"\b(?:can(?:no|['’])t|cannot|unable|not able|don['’]t|do not)\b"
    r"|\bI (?:must|have to) (?:decline|refuse)\b|\bI decline to\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:guidelines|polic(?:y|ies)|programming|principles)\b"
    r"|\b(?:lo siento|je suis désolée?|es tut mir leid|mi dispiace|desculpe|sinto muito)\b[^.\n]{0,20}"
    r"\b(?:no puedo|ne peux pas|kann|non posso|não posso)\b",
    re.IGNORECASE,
)
_HEDGING: Final = re.compile(
    r"\bI(?: am|['’]m) (?:not (?:sure|certain|entirely sure|confident)|unsure|uncertain)\b"
    r"|\bI (?:do not|don['’]t) (?:really |actually )?know\b|\bI (?:may|might|could) be (?:wrong|mistaken)\b"
    r"|\b(?:hard|difficult|impossible) to (?:say|tell|determine|know)\b"
    r"|\b(?:not enough|insufficient) (?:information|data|context|details)\b"
    r"|\bit(?:['’]s| is) (?:unclear|not clear)\b|\bmy best guess\b"
    r"|\b(?:cannot|can['’]t) be (?:determined|sure|certain)\b"
    r"|\bthis (?:answer )?may not be (?:correct|accurate)\b",
    re.IGNORECASE,
)


def is_refusal(answer: str) -> bool:
    """Whether it begins by declining. A letter that declines something is none: what is declined counts."""
    return bool(_REFUSAL.search(answer.lstrip()[:OPENING_CHARS]))


def is_hedging(answer: str) -> bool:
    """Whether it says that it is not sure."""
    return bool(_HEDGING.search(answer[:READ_CHARS]) or _HEDGING.search(answer[-READ_CHARS:]))


def is_repetitive(answer: str) -> bool:
    """Whether its end says the same over and over."""
    tail = answer[-TAIL_CHARS:]
    return _is_loop_of_characters(tail) or _is_loop_of_words(tail)


def _is_loop_of_characters(text: str) -> bool:
    raw = text.encode("utf-8", "replace")
    return len(text) >= MIN_LOOP_CHARS and len(zlib.compress(raw, 6)) < LOOP_RATIO * len(raw)


def _is_loop_of_words(text: str) -> bool:
    words = text.lower().split()
    grams = [tuple(words[index : index + _GRAM]) for index in range(len(words) - _GRAM + 1)]
    return len(words) >= MIN_LOOP_WORDS and len(set(grams)) < LOOP_DISTINCT * len(grams)
