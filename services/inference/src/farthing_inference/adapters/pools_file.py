"""The pools file on disk, with the chat templates that it names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from farthing_inference.adapters.chat_templates import check_source
from farthing_inference.domain.pools import PoolSpec
from farthing_inference.domain.pools_file import PoolsFileError, Surroundings, parse

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_TEMPLATE_BYTES: Final = 256 * 1024


def load(path: Path, environment: Mapping[str, str], adapters: Collection[str]) -> tuple[PoolSpec, ...]:
    """The pools of a file. Templates are looked up beside it. Raises PoolsFileError naming each problem."""
    try:
        text = _read(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise PoolsFileError(str(path), [str(error)]) from None
    around = Surroundings(environment, adapters, lambda value: _template(value, path.parent))
    return parse(text, str(path), around)


def _template(value: str, folder: Path) -> str:
    """A template itself (it has Jinja's marks), or one read from a file."""
    inline = "{{" in value or "{%" in value
    try:
        return check_source(value if inline else _read(folder / value, MAX_TEMPLATE_BYTES))
    except ValueError as error:
        raise ValueError(str(error) if inline else f"{value} {error}") from None


def _read(path: Path, limit: int) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(raw) > limit:
        raise ValueError(f"has {len(raw)} bytes, at most {limit} are read")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
