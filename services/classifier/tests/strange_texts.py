"""Texts that nobody should send, and somebody will."""

from __future__ import annotations

STRANGE = {
    "one letter": "a",
    "control characters": "\x00\x01\x02\x7f" * 8,
    "only punctuation": "?!?!...",
    "special tokens of the encoder": "[CLS] [SEP] [PAD] [UNK]",
    "half a surrogate pair": "broken \ud800 text",
    "emoji": "🙂🚀" * 20,
    "zero-width and direction marks": "\u200b\u202e\ufeff" * 10 + "hello",
    "combining marks": "e" + "\u0301" * 500,
    "Chinese": "你好，世界，今天天气怎么样？",
    "Arabic": "ما هي عاصمة فرنسا؟",
    "base64": "aGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0" * 20,
    "one word of a million letters": "x" * 1_000_000,
    "a hundred thousand words": "word " * 100_000,
    "a million line breaks": "a" + "\n" * 1_000_000 + "b",
    "nested brackets": "([{" * 50_000,
    "dollars": "$" * 100_000,
}
