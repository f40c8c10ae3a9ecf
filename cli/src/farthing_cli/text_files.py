"""Files of text that a user names: read whole or line by line, and refused in one line where they cannot be."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from farthing_cli.errors import InputError

MAX_LINE_BYTES: Final = 16 * 1024 * 1024


def whole_text(path: Path, most_bytes: int) -> str:
    """All of a file of UTF-8, without the byte order mark that some editors write before it."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) > most_bytes:
        raise InputError(f"cannot read {path}: it has more than {most_bytes:,} bytes")
    return _decoded(str(path), content)


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each line that is not blank. A line ends with a line feed and with nothing else: a string of
    JSON may hold the other separators of Unicode."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(path, file), 1):
                if line.strip():
                    place = f"{path}:{number}"
                    yield place, _value(place, line)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be opened or read."""
    return InputError(f"cannot read {path}: {error.strerror}")


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"cannot read {path}: a line of it has more than {MAX_LINE_BYTES:,} bytes")
        yield line


def _value(place: str, line: bytes) -> Any:
    try:
        return json.loads(_decoded(place, line), parse_constant=_no_number)
    except RecursionError:
        raise InputError(f"{place}: is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{place}: is not JSON: {error}") from None


def _decoded(place: str, content: bytes) -> str:
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {place}: byte {error.start + 1} is not UTF-8; convert it first") from None


def _no_number(word: str) -> NoReturn:
    """Python's reader would take NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{word} is no number of JSON")
