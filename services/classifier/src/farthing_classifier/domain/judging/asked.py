"""What a conversation asks for, as far as an answer can be held to it: JSON, an option, a number, a length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.length import stated_tokens

# Of longer prompts both ends are read.
HEAD_CHARS: Final = 4_096
TAIL_CHARS: Final = 4_096

_JSON: Final = re.compile(
    r"\b(?:as|in|into|valid|return|output|outputs|give|reply|respond|answer|only|produce|format|using)\b[^.\n]{0,40}\bjson\b"
    r"|\bjson (?:only|object|array|format|output|response|with|containing)\b",
    re.IGNORECASE,
)
_ABOUT_JSON: Final = re.compile(
    r"\b(?:function|script|program|class|method|code|parser?|schema|explain|what is|difference|why)\b"
    r"|\bhow (?:do|does|can|to)\b",
    re.IGNORECASE,
)
_NOTHING_ELSE: Final = re.compile(
    r"\b(?:only|just|nothing (?:else|but)|no other text|without any (?:other )?text)\b", re.IGNORECASE
)
_OPTIONS: Final = re.compile(r"(?:^|\s)\(?([A-J])[).:]\s")
_QUANTITY: Final = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|fast|heavy)\b|\bwhat (?:is|are|was|will be|would be) the (?:\w+ ){0,3}"
    r"(?:number|total|sum|average|cost|price|value|amount|product|difference|percentage|area|distance|age|profit)\b"
    r"|\bcalculate\b|\bcompute\b",
    re.IGNORECASE,
)
_AT_LENGTH: Final = re.compile(
    r"\b(?:explain|essay|describe|discuss|story|article|letter|in detail|step by step|compare|report|blog post)\b",
    re.IGNORECASE,
)
_BRIEFLY: Final = re.compile(
    r"\b(?:brief(?:ly)?|short|one word|single word|one sentence|just|only|yes or no|concise(?:ly)?|tl;?dr)\b",
    re.IGNORECASE,
)
_REPETITION: Final = re.compile(r"\brepeat|\btimes in a row\b|\bover and over\b", re.IGNORECASE)
_DIGIT: Final = re.compile(r"\d")

# An essay or an explanation in fewer words is none.
WORDS_AT_LENGTH: Final = 12
# Of a length that the prompt states, this share is the least that will do.
STATED_SHARE: Final = 0.4
TOKENS_PER_WORD: Final = 1.35


@dataclass(frozen=True, slots=True)
class Asked:
    """What the prompt asks for. `least_words` is 0 where any length will do."""

    json: bool
    json_alone: bool
    options: frozenset[str]
    number: bool
    least_words: float
    repetition: bool


def read(prompt: str, frame: str, task: Task) -> Asked:
    """From the prompt, what frames it (the system messages), and the kind of work."""
    text = _ends(prompt)
    framed = f"{_ends(frame)}\n{text}"
    json_asked = task is not Task.CODE and bool(_JSON.search(framed)) and not _ABOUT_JSON.search(text)
    options = frozenset(_OPTIONS.findall(text))
    return Asked(
        json=json_asked,
        json_alone=json_asked and bool(_NOTHING_ELSE.search(framed)),
        options=options if {"A", "B"} <= options else frozenset(),
        number=_asks_for_number(text, task) and not options and not json_asked,
        least_words=_least_words(text),
        repetition=bool(_REPETITION.search(text)),
    )


def _ends(text: str) -> str:
    return text if len(text) <= HEAD_CHARS + TAIL_CHARS else f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def _asks_for_number(text: str, task: Task) -> bool:
    """A problem with numbers in it; nothing is asked of a kind of work that is known to be another."""
    possible = task in (Task.MATHS, Task.UNSPECIFIED, Task.REASONING, Task.QUESTION_ANSWERING)
    return possible and bool(_QUANTITY.search(text)) and len(_DIGIT.findall(text)) > 1


def _least_words(text: str) -> float:
    stated = stated_tokens(text)
    if stated is not None:
        return STATED_SHARE * stated / TOKENS_PER_WORD
    return WORDS_AT_LENGTH if _AT_LENGTH.search(text) and not _BRIEFLY.search(text) else 0.0
