"""The pools file on disk, with the chat templates that it names."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from farthing_inference.adapters.chat_templates import check_source
from farthing_inference.domain.pools import PoolSpec
from farthing_inference.domain.pools_file import PoolsFileError, Surroundings, parse

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_TEMPLATE_BYTES: Final = 256 * 1024
MAX_TOKENIZER_BYTES: Final = 64 * 1024 * 1024


def load(path: Path, environment: Mapping[str, str], adapters: Collection[str]) -> tuple[PoolSpec, ...]:
    """The pools of a file. Templates are looked up beside it. Raises PoolsFileError naming each problem."""
    try:
        text = _read(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise PoolsFileError(str(path), [str(error)]) from None
    folder = path.parent
    around = Surroundings(
        environment, adapters, lambda value: _template(value, folder), lambda value: _tokens(value, folder)
    )
    return parse(text, str(path), around)


def _template(value: str, folder: Path) -> str:
    """A template itself (it has Jinja's marks), or one read from a file."""
    inline = "{{" in value or "{%" in value
    try:
        return check_source(value if inline else _read(folder / value, MAX_TEMPLATE_BYTES))
    except ValueError as error:
        raise ValueError(str(error) if inline else f"{value} {error}") from None


def _tokens(value: str, folder: Path) -> list[str]:
    """The added tokens of Hugging Face's tokenizer.json or tokenizer_config.json: those that are matched in a text
    before it is split, special or not, but for blanks."""
    try:
        found = json.loads(_read(folder / value, MAX_TOKENIZER_BYTES))
        added = found["added_tokens"] if "added_tokens" in found else found["added_tokens_decoder"].values()
        return [token["content"] for token in added if token["content"].strip()]
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{value} has neither added_tokens nor added_tokens_decoder, as a tokenizer's file has"
        ) from None
    except ValueError as error:
        raise ValueError(f"{value} {error}") from None


def _read(path: Path, limit: int) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(raw) > limit:
        raise ValueError(f"has {len(raw)} bytes, at most {limit} are read")
    try:
        return raw.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
