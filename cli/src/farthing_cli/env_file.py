"""Files of settings, NAME=VALUE a line, as compose reads its .env; what it would read otherwise is refused."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from farthing_cli.errors import InputError
from farthing_cli.text_files import whole_text
from farthing_kit.numbers import quoted

MAX_BYTES: Final = 1024 * 1024
_BLANKS: Final = " \t\r"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ESCAPES: Final[Mapping[str, str]] = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read(path: Path) -> dict[str, str]:
    """The settings of a file; of a name that comes twice, the last."""
    found: dict[str, str] = {}
    lines = enumerate(whole_text(path, MAX_BYTES).replace("\r\n", "\n").split("\n"), 1)
    for number, line in lines:
        try:
            if (content := line.strip(_BLANKS)) and not content.startswith("#"):
                name, value = _setting(content, lines)
                found[name] = value
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
    return found


def _setting(line: str, after: Iterator[tuple[int, str]]) -> tuple[str, str]:
    """Name and value; a value in quotation marks may go on in the lines after it."""
    name, separator, raw = line.partition("=")
    if name.startswith(("export ", "export\t")):
        name = name.removeprefix("export")
    name, raw = name.strip(_BLANKS), raw.strip(_BLANKS)
    if not separator or not _NAME.fullmatch(name):
        raise ValueError(f"{quoted(line)} is not NAME=VALUE")
    if raw[:1] in ("'", '"'):
        return name, _quoted(name, raw[0], raw[1:], after)
    value = _without_comment(raw)
    _require_no_variable(name, value)
    return name, value


def _without_comment(raw: str) -> str:
    """A comment begins with a # that has a blank before it, or nothing."""
    place = next((n for n, char in enumerate(raw) if char == "#" and (n == 0 or raw[n - 1] in _BLANKS)), len(raw))
    return raw[:place].rstrip(_BLANKS)


def _quoted(name: str, mark: str, line: str, after: Iterator[tuple[int, str]]) -> str:
    """The value up to the closing mark, behind which only a comment may stand."""
    value: list[str] = []
    while True:
        chars = iter(enumerate(line))
        for place, char in chars:
            if char == mark:
                behind = line[place + 1 :].strip(_BLANKS)
                if behind and not behind.startswith("#"):
                    raise ValueError(f"{name} has {quoted(behind)} behind its closing quotation mark")
                return "".join(value)
            if mark == '"' and char == "\\":
                _, escape = next(chars, (0, ""))
                value.append(_ESCAPES.get(escape, f"\\{escape}"))
                continue
            if mark == '"':
                _require_no_variable(name, char)
            value.append(char)
        if (following := next(after, None)) is None:
            raise ValueError(f"{name} has an opening quotation mark {mark} and no closing one")
        value.append("\n")
        line = following[1]


def _require_no_variable(name: str, value: str) -> None:
    if "$" in value:
        raise ValueError(f"{name} has a $, which compose fills in and this check cannot; write '…' around the value")
