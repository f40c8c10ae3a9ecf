"""Chat templates: each model's own Jinja template, rendered in a sandbox, within a limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from farthing_inference.domain.errors import PromptTooLarge
from farthing_inference.domain.generation import Message
from farthing_inference.domain.pools import ModelSpec
from farthing_kit.errors import InvalidArgument

# A template adds markers and perhaps instructions to what the messages hold: more than this would be a runaway loop.
MAX_ADDED_BYTES: Final = 64 * 1024


class Refused(TemplateError):
    """The template called raise_exception: it does not take this conversation."""


def _refuse(message: str) -> NoReturn:
    raise Refused(message)


# The environment that Hugging Face renders chat templates in; the templates are written for these settings.
_ENVIRONMENT: Final = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
_ENVIRONMENT.globals["raise_exception"] = _refuse


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def check_source(source: str) -> str:
    """The source itself. Raises ValueError when it is no template."""
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise ValueError(f"is not a Jinja template: line {error.lineno}: {error.message}") from None
    return source


class JinjaTemplates:
    """Renders prompts. Strings in a message that the engine would read as markers are broken up, so that no message can
    pretend to be another role's."""

    def __init__(self, max_prompt_bytes: int) -> None:
        self._max_bytes = max_prompt_bytes + MAX_ADDED_BYTES

    def render(self, model: ModelSpec, messages: Sequence[Message]) -> str:
        """The prompt of a conversation. `bos_token` is empty: engines put that token first by themselves, and two of
        them spoil the answer. A model without a template gets the texts, joined by line breaks."""
        contents = [model.markers.broken_up(message.content) for message in messages]
        if model.chat_template is None:
            return "\n".join(contents)
        turns = [{"role": m.role.value, "content": text} for m, text in zip(messages, contents, strict=True)]
        try:
            return self._joined(_compiled(model.chat_template).generate(_variables(turns)))
        except Refused:
            text = "do not fit this model, whose template wants other roles; let user and assistant alternate"
            raise InvalidArgument.field("messages", text) from None

    def _joined(self, pieces: Iterable[str]) -> str:
        kept: list[str] = []
        size = 0
        for piece in pieces:
            size += len(piece.encode())
            if size > self._max_bytes:
                raise PromptTooLarge.in_bytes(size, self._max_bytes)
            kept.append(piece)
        return "".join(kept)


def _variables(turns: list[dict[str, str]]) -> dict[str, Any]:
    return {"messages": turns, "add_generation_prompt": True, "bos_token": "", "eos_token": "", "tools": None}
