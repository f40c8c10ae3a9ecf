"""Which text of a conversation is judged: its last message, with the question before it when it says too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from farthing_classifier.domain import injection

# A last message shorter than this ("and why?") is judged together with the end of the user's message before it.
STANDALONE_CHARS: Final = 48
CONTEXT_CHARS: Final = 240


class Role(Enum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that is judged, and the text that was asked: the same, unless all of it speaks to the router, when
    there is nothing to judge. `rest_chars` counts what the conversation holds besides the first: it costs tokens as
    well."""

    text: str
    asked: str
    rest_chars: int
    addresses_router: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked."""
        return not self.asked


def assemble(messages: Sequence[Message]) -> Prompt:
    """The judged text of a conversation, oldest message first.

    System messages frame every request of an application alike, so they say nothing about this one. Assistants'
    messages are left out: judged is what is asked, not what was answered. What speaks to the router is cut out.
    """
    last = _last(messages, lambda role: role is not Role.SYSTEM) or _last(messages, lambda role: True)
    if last is None:
        return Prompt("", "", 0)
    place, asked = last
    heard = injection.cut(asked)
    text = heard.text
    if len(text) < STANDALONE_CHARS and (earlier := _last(messages[:place], lambda role: role is Role.USER)):
        text = f"{injection.cut(earlier[1]).text[-CONTEXT_CHARS:]}\n{text}".strip()
    everything = sum(len(message.content) for message in messages)
    return Prompt(text, text or asked, max(0, everything - len(text)), heard.addresses_router)


def _last(messages: Sequence[Message], counts: Callable[[Role], bool]) -> tuple[int, str] | None:
    """The last message with text of those whose role counts, and its place."""
    for place in range(len(messages) - 1, -1, -1):
        if counts(messages[place].role) and (text := _clean(messages[place].content)):
            return place, text
    return None


def _clean(text: str) -> str:
    """Without surrounding white space, nor halves of surrogate pairs, which no tokenizer takes."""
    text = text.strip()
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
