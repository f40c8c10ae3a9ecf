"""Mending usage events: money is never refused over what only says something about it.

What decides who pays how much (the request, the organisation, the tokens, their prices) is right, or the event is
refused. All else is mended, and it is told that something was: the event is booked, and an alarm says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar

from farthing_accounting.domain.usage import MAX_ID_CHARS, MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS
from farthing_kit import labels

T = TypeVar("T")
UNKNOWN_MODEL: Final = "unknown"


class Unreadable(Exception):
    """The bytes are no usage event; the text names the field and holds nothing of its content."""


class Mending:
    """For one event. `received` is when the stream got it, where that is known."""

    def __init__(self, received: datetime | None = None) -> None:
        self.received = received
        self.mended = False

    def otherwise(self, read: Callable[[], T], else_: T) -> T:
        """What `read` gives, or something else where it finds nothing that can be read."""
        try:
            return read()
        except Unreadable:
            self.mended = True
            return else_

    def label(self, value: str, most: int) -> str:
        """The text itself, or the nearest that is a label; it may be empty."""
        found = labels.sanitised(value, most=most, least=0)
        self.mended |= found != value
        return found

    def model(self, value: str, most: int) -> str:
        """The name of a model; one without a name is booked all the same, at the prices that it came with."""
        self.mended |= not value
        return self.label(value, most) or UNKNOWN_MODEL

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """At most MAX_TAGS, the first by name."""
        kept = sorted(tags.items())[:MAX_TAGS]
        self.mended |= len(kept) < len(tags) or "" in tags
        return {
            self.label(key, MAX_TAG_KEY_CHARS) or labels.REPLACEMENT: self.label(value, MAX_TAG_VALUE_CHARS)
            for key, value in kept
        }

    def number(self, value: int) -> int:
        """A version that is none becomes 0, which no list has: `Verify` names the event."""
        self.mended |= value < 0
        return max(value, 0)


def text(field: str, value: str, *, most: int = MAX_ID_CHARS, least: int = 0) -> str:
    """A name that something is found by: as it is, or refused."""
    if not least <= len(value) <= most or not value.isprintable():
        raise Unreadable(f"{field} is not a text of {least} to {most} characters")
    return value
