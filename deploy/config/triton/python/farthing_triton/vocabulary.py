"""Which texts a model's tokenizer reads as one token with a meaning of its own, out of the weights file itself."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 2, 3, 4, 5  # tokenizer.ggml.token_type
STRING, ARRAY = 8, 9
# Sizes of GGUF's other types, as struct reads them.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Tokenizers keep runs of blanks and the elements of HTML as tokens too: those are what a text says, no markers.
HTML = frozenset(
    "a b blockquote body caption code div em footer h1 h2 h3 h4 h5 h6 html i iframe img li s span strong sub sup table"
    " tbody td tfoot th thead tr u ul".split()
)


def control_tokens(weights: Path) -> list[str]:
    """The texts of all control, unknown and unused tokens of a GGUF file, and of those user-defined ones that are no
    plain text."""
    found = metadata(weights)
    texts: list[str] = found["tokenizer.ggml.tokens"]
    types: list[int] = found["tokenizer.ggml.token_type"]
    named = {value for key, value in found.items() if key.startswith("tokenizer.ggml.") and key.endswith("_token_id")}
    return [
        text
        for number, (text, kind) in enumerate(zip(texts, types, strict=True))
        if text and (kind in (UNKNOWN, CONTROL, UNUSED) or number in named or (kind == USER_DEFINED and _marks(text)))
    ]


def metadata(weights: Path) -> dict[str, Any]:
    """What a GGUF file says of its tokenizer."""
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return dict(_metadata(content))


def _marks(text: str) -> bool:
    return bool(text.strip()) and text.strip("</>") not in HTML


def _metadata(content: Any) -> Iterator[tuple[str, Any]]:
    """These fields come before the tensors."""
    magic, _, _, count = struct.unpack_from("<4sIQQ", content)
    if magic != b"GGUF":
        raise ValueError("not a GGUF file")
    at = 24
    for _ in range(count):
        key, at = _string(content, at)
        (kind,) = struct.unpack_from("<I", content, at)
        value, at = _value(content, at + 4, kind)
        if key.startswith("tokenizer."):
            yield key, value


def _value(content: Any, at: int, kind: int) -> tuple[Any, int]:
    if kind == STRING:
        return _string(content, at)
    if kind == ARRAY:
        return _array(content, at)
    form = f"<{NUMBERS[kind]}"
    return struct.unpack_from(form, content, at)[0], at + struct.calcsize(form)


def _array(content: Any, at: int) -> tuple[list[Any], int]:
    kind, length = struct.unpack_from("<IQ", content, at)
    at += 12
    if kind in NUMBERS:
        form = f"<{length}{NUMBERS[kind]}"
        return list(struct.unpack_from(form, content, at)), at + struct.calcsize(form)
    values = []
    for _ in range(length):
        value, at = _value(content, at, kind)
        values.append(value)
    return values, at


def _string(content: Any, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", content, at)
    end = at + 8 + length
    return content[at + 8 : end].decode(errors="replace"), end
