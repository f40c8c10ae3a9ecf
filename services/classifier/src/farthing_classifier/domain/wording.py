"""What a text asks, without the courtesies around it: they cost nothing to add, and must not move a judgement."""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Final

# What is left must be enough to judge: "hi, thanks!" is all there is of it.
MIN_CORE_CHARS: Final = 12
# Courtesies stand at both ends; the middle of a text is not searched, so that the time for it has a bound.
EDGE_CHARS: Final = 200
MAX_COURTESIES: Final = 6
# What is put before a prompt to push its judgement is left out of what a small model is judged by: so many words, but
# never more than half.
LEAD_WORDS: Final = 16
LEAD_CHARS: Final = 4_096

_NAME: Final = r"(?: (?:there|all|everyone|team|assistant|again|sir|madam|friend))?"
_LEADING: Final = re.compile(
    r"\s*(?:"
    rf"(?:hi|hello|hey|greetings|dear{_NAME}|good (?:morning|afternoon|evening|day)){_NAME}\s*[,.!:\u2013\u2014-]+"
    r"|(?:hope you(?:'re| are)? (?:doing )?(?:well|fine)|i hope (?:this|you)[^.!?\n]{0,40}|thanks? (?:you )?in advance"
    r"|(?:quick|one|a quick|just a(?: quick)?) question|sorry to bother you|excuse me|i have a question(?: for you)?"
    r"|i need (?:some |your )?help(?: with (?:this|something|the following))?)\s*[,.!:\u2013\u2014-]+"
    r"|(?:(?:can|could|would|will) you (?:please |kindly )?(?:help me (?:with (?:this|the following)|answer(?: this"
    r"| the following)?(?: question)?)|(?:answer|solve|do|help (?:me )?with)"
    r" (?:this|the following|me this)(?: question| problem| task| one)?(?: for me)?)"
    r"|please (?:help me with|answer|solve) (?:this|the following)(?: question| problem| task| one)?(?: for me)?)"
    r"\s*[?,.!:\u2013\u2014-]+"
    r"|(?:(?:can|could|would|will) you(?: please| kindly)?(?: tell me[,:]?)?|please[,:]?|kindly|tell me[,:]?)\s"
    r")\s*",
    re.IGNORECASE,
)
_TRAILING: Final = re.compile(
    r"(?:(?<=\?)[\s,]*+|(?<![\s,.!;-])[\s,.!;-]++)"
    r"(?:please|pls|thanks?(?: you)?(?: (?:so|very) much| a lot| in advance)?"
    r"|cheers|many thanks|thx"
    r"|(?:i )?(?:really )?appreciate it|kind regards|best regards)[\s.!?,)]*$",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
_BLANKS: Final = re.compile(r"[ \t]{2,}|[ \t]+(?=\n)")
_QUOTES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


def core(text: str) -> str:
    """The text without greetings, pleas and thanks at its ends, in composed characters and with plain quotes.

    A text that is little more than courtesies stays as it is.
    """
    plain = unicodedata.normalize("NFC", text).translate(_QUOTES).strip()
    start, end = _after_courtesies(plain), _before_thanks(plain)
    kept = plain[start:end].strip()
    return kept if len(kept) >= MIN_CORE_CHARS else plain


def plain(text: str) -> str:
    """The core with single blanks and without its last mark: what people type or forget without meaning anything."""
    return _BLANKS.sub(" ", core(text)).rstrip(" \n?.!\u2026") or text.strip()


def rest(text: str) -> str:
    """The plain text without its first words: LEAD_WORDS of them, or half where it has fewer than twice as many."""
    return rest_of_plain(plain(text))


def rest_of_plain(read: str) -> str:
    """The same, of a text that is plain."""
    starts = [found.start() for found in islice(_WORD.finditer(read, 0, LEAD_CHARS), 2 * LEAD_WORDS)]
    return read[starts[len(starts) // 2] :] if len(starts) > 1 else read


def _after_courtesies(text: str) -> int:
    edge, start = text[:EDGE_CHARS], 0
    for _ in range(MAX_COURTESIES):
        found = _LEADING.match(edge, start)
        if found is None or found.end() == start:
            break
        start = found.end()
    return start


def _before_thanks(text: str) -> int:
    end = len(text)
    for _ in range(MAX_COURTESIES):
        begin = max(0, end - EDGE_CHARS)
        found = _TRAILING.search(text[begin:end])
        if found is None:
            break
        end = begin + found.start()
    return end
