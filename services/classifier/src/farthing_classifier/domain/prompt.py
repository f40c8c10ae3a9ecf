"""Which text of a conversation is judged: its last message, with the question before it when it says too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

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
    """The text that is judged. `rest_chars` counts what the conversation holds besides: it costs tokens as well."""

    text: str
    rest_chars: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to judge."""
        return not self.text


def assemble(messages: Sequence[Message]) -> Prompt:
    """The judged text of a conversation, oldest message first.

    System messages frame every request of an application alike, so they say nothing about this one. Assistants'
    messages are left out: judged is what is asked, not what was answered.
    """
    asked = [text for message in messages if message.role is not Role.SYSTEM and (text := _clean(message.content))]
    if not asked:
        asked = [text for message in messages if (text := _clean(message.content))]
    if not asked:
        return Prompt("", 0)
    text = asked[-1]
    earlier = _question_before(messages, text)
    if earlier and len(text) < STANDALONE_CHARS:
        text = f"{earlier[-CONTEXT_CHARS:]}\n{text}"
    everything = sum(len(message.content) for message in messages)
    return Prompt(text, max(0, everything - len(text)))


def _question_before(messages: Sequence[Message], last: str) -> str:
    users = [text for message in messages if message.role is Role.USER and (text := _clean(message.content))]
    if users and users[-1] == last:
        users.pop()
    return users[-1] if users else ""


def _clean(text: str) -> str:
    """Without surrounding white space, nor halves of surrogate pairs, which no tokenizer takes."""
    return text.strip().encode("utf-8", "replace").decode("utf-8")
