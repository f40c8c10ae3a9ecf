"""How many tokens a request may need at most, before any model has seen it."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

from farthing_gateway.domain.prompt import Message
from farthing_kit.usage import TokenUsage

# A chat template adds some tokens around each message, and some models a system prompt of their own.
TOKENS_PER_MESSAGE: Final = 8
TOKENS_PER_PROMPT: Final = 32
# What looks like a token that controls a model is broken up before a model sees it, by a character of so many bytes.
BREAK_BYTES: Final = 3


def estimate(messages: tuple[Message, ...], max_output_tokens: int) -> TokenUsage:
    """What to reserve: an upper bound, so that settling does not exceed the reservation.

    Should a model with a tokenizer of another kind count more, the ledger books what was used, and the next
    reservation sees it.
    """
    template = TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE * len(messages)
    text = sum(most_tokens(message.content) for message in messages)
    return TokenUsage(fresh_input=text + template, output=max_output_tokens)


def most_tokens(text: str) -> int:
    """The most tokens that a model makes of a text: one for each byte, as tokenizers of bytes, or with bytes to fall
    back on, never make more; except for common words. Those are one token in the vocabularies that they were taken from
    (README.md says which), alone or with the space before them, and two where they follow a sign."""
    spared = sum(map(_spared, _WORD.findall(text)))
    return len(text.encode()) - spared + BREAK_BYTES * len(_MARKER.findall(text))


def _spared(word: str) -> int:
    if word in _ONE_TOKEN:
        return len(word) - 1
    if word[1:] in _ONE_TOKEN and not word[0].isalpha():
        return max(0, len(word) - 3)  # the sign, and two for the word
    return 0


def _one_token_words() -> frozenset[str]:
    """Words that are one token, and, as " word", those that are one only with the space before them."""
    listed = resources.files(__package__).joinpath("one_token_words.txt").read_text("ascii")
    alone, spaced = (part.split() for part in listed.split("\n\n"))
    return frozenset(alone) | {f" {word}" for word in [*alone, *spaced]}


_ONE_TOKEN: Final = _one_token_words()
# All letters in a row, with the space before them if it is the only one, or with the sign before them: tokenizers may
# take it and the first letters together ("_no|vember"). Nothing after an apostrophe: in "'re|gion" they see a
# contraction, and what is left is no word.
_WORD: Final = re.compile(r"(?<=\S) [^\W\d_]++|(?<![^ \n\d])[^\W\d_]++|(?:[^\w' \n]|_)[^\W\d_]++")
_MARKER: Final = re.compile(r"[<\[][^\s<>\[\]]{1,64}[>\]]")
