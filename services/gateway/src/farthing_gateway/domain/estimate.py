"""How many tokens a request may need at most, before any model has seen it."""

from __future__ import annotations

from typing import Final

from farthing_gateway.domain.prompt import Message
from farthing_kit.usage import TokenUsage

# A chat template adds some tokens around each message, and some models a system prompt of their own.
TOKENS_PER_MESSAGE: Final = 8
TOKENS_PER_PROMPT: Final = 32
# Of plain prose, tokenizers make one token of four or five letters; three is on the safe side.
LETTERS_PER_TOKEN: Final = 3
_PROSE: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ "


def estimate(messages: tuple[Message, ...], max_output_tokens: int, counted: int | None) -> TokenUsage:
    """What to reserve: an upper bound in practice, so that settling does not exceed the reservation.

    Prose counts a token for three letters. Everything else (digits, punctuation, line ends, other scripts) counts a
    token for each byte: models split digits one by one, and no byte-level tokenizer makes more tokens than there are
    bytes. The classifier's count (`counted`) uses another vocabulary than the models, so it can only raise the bound.
    Letters that form no words can still exceed it; then the ledger books what was used, and the next reservation sees
    it.
    """
    raw = "".join(message.content for message in messages).encode()
    others = len(raw.translate(None, _PROSE))
    bound = others - (others - len(raw)) // LETTERS_PER_TOKEN  # rounds the letters up
    template = TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE * len(messages)
    return TokenUsage(fresh_input=max(bound, counted or 0) + template, output=max_output_tokens)
