"""Tokens in buckets that do not overlap."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NewType

Tokens = NewType("Tokens", int)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of one request. The sum over the buckets is what was processed; no token is in two of them."""

    fresh_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __post_init__(self) -> None:
        for bucket in fields(self):
            if getattr(self, bucket.name) < 0:
                raise ValueError(f"{bucket.name} is negative")

    @property
    def input_total(self) -> Tokens:
        """Prompt tokens of every kind (`gen_ai.usage.input_tokens`, which includes cached ones)."""
        return Tokens(self.fresh_input + self.cache_read + self.cache_write)

    @property
    def output_total(self) -> Tokens:
        """Generated tokens, seen or not (`gen_ai.usage.output_tokens`)."""
        return Tokens(self.output + self.reasoning)

    @property
    def total(self) -> Tokens:
        """Every token of the request, once."""
        return Tokens(self.input_total + self.output_total)

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
