"""Code in an answer: whether it parses. It is never run."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Parsing takes time and memory with the length: what lies beyond stays unread.
MAX_BLOCK_CHARS: Final = 32_768
MAX_BLOCKS: Final = 16

_FENCE: Final = re.compile(r"^[ \t]{0,8}(?:```|~~~)[ \t]{0,4}([\w+#.-]{0,20})[^\n]{0,80}$", re.MULTILINE)
_PYTHON: Final = frozenset(("python", "py", "python3"))
# Languages whose brackets come in pairs wherever they are not quoted.
_BRACKETED: Final = frozenset(
    "java javascript js typescript ts c cpp c++ c# cs csharp go golang kotlin swift php".split()
)
# An open quotation is taken to the end of its line: given up, it would be tried again from each of its characters.
_QUOTED: Final = re.compile(
    r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?|\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?|`(?:[^`\\]|\\.)*`?"
)
_PROMPT_SIGNS: Final = re.compile(r"^(?:>>>|\.\.\.) ?", re.MULTILINE)
_SHELL_LINES: Final = re.compile(r"^[ \t]{0,8}[!%][^\n]*$", re.MULTILINE)
_LOOKS_PYTHON: Final = re.compile(r"^(?:def \w+\(|class \w+[(:]|import \w+|from [\w.]+ import )", re.MULTILINE)
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_SOURCE: Final = "<answer>"

# What Python remarks about an answer's code is nobody's business, and would be printed.
warnings.filterwarnings("ignore", module=re.escape(_SOURCE))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `closed`: its end is there."""

    language: str
    text: str
    closed: bool


def blocks(answer: str) -> list[Block]:
    """The fenced blocks of an answer, in order."""
    found: list[Block] = []
    fences = list(_FENCE.finditer(answer))[: 2 * MAX_BLOCKS]
    for number in range(0, len(fences), 2):
        begin = fences[number].end() + 1
        closed = number + 1 < len(fences)
        end = fences[number + 1].start() if closed else len(answer)
        found.append(Block(fences[number][1].lower(), answer[begin:end], closed))
    return found


def without_blocks(answer: str) -> str:
    """The prose of an answer."""
    return "".join(_prose(answer))


def _prose(answer: str) -> Iterator[str]:
    at = 0
    fences = list(_FENCE.finditer(answer))
    for number in range(0, len(fences), 2):
        yield answer[at : fences[number].start()]
        at = fences[number + 1].end() if number + 1 < len(fences) else len(answer)
    yield answer[at:]


def parses(found: list[Block]) -> bool | None:
    """Whether all blocks that can be checked parse; None where none can be."""
    checks = [check for block in found if (check := _block_parses(block)) is not None]
    return all(checks) if checks else None


def _block_parses(block: Block) -> bool | None:
    if len(block.text) > MAX_BLOCK_CHARS or not block.text.strip():
        return None
    if block.language in _PYTHON or (not block.language and _LOOKS_PYTHON.search(block.text)):
        return _python_parses(block.text)
    if block.language == "json":
        return json_parses(block.text)
    if block.language in _BRACKETED and not _is_balanced(block.text):
        return False
    return None


def _python_parses(source: str) -> bool | None:
    if _PROMPT_SIGNS.match(source):
        return None  # a session, with what it printed
    source = _SHELL_LINES.sub("", source)
    indent = len(source) - len(source.lstrip(" \t\n"))
    if indent and not source.startswith("\n"):
        source = f"if 1:\n{source}"  # a part of something, indented as it was there
    try:
        compile(source, _SOURCE, "exec", flags=ast.PyCF_ONLY_AST, dont_inherit=True)
    except (RecursionError, MemoryError):
        return None  # nested deeper than is looked into
    except (SyntaxError, ValueError):
        return False
    return True


def json_parses(text: str) -> bool:
    """Whether a text is one JSON value, as RFC 8259 has it."""
    try:
        json.loads(text, parse_int=_unread, parse_float=_unread, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False
    return True


def _unread(digits: str) -> int:
    return 0


def _refused(constant: str) -> int:
    raise ValueError


def _is_balanced(source: str) -> bool:
    waiting: list[str] = []
    for sign in _QUOTED.sub("", source):
        if sign in "([{":
            waiting.append(sign)
        elif sign in _PAIRS and (not waiting or waiting.pop() != _PAIRS[sign]):
            return False
    return not waiting
