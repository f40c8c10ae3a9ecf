"""Pairs of prompts for the verifier: wordings that may share an answer, and traps that look as if they could."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Final

from farthing_cache.domain import lexicon
from farthing_models.pair_reorderings import reordered

_SLOT: Final = re.compile(r"\{(\w+?)(2?)\}")
_SENTENCE: Final = re.compile(r"[A-Z][^?!\n]{12,160}\?")
_FILLS: Final = 6  # of each intent
_LONGEST_REAL: Final = 28  # words
_MOST_REAL: Final = 1_800


@dataclass(frozen=True, slots=True)
class Pair:
    """Two prompts, whether one answer serves both, how the pair was made, and what must not be split between folds."""

    a: str
    b: str
    same: bool
    kind: str
    group: str


def pairs(data: Path, seed: int) -> list[Pair]:
    """All pairs: from the templates, and from real questions under `data` (the routing outcome sets)."""
    chance = random.Random(seed)
    made = [*_from_templates(chance), *_from_questions(questions(data, chance), chance)]
    return list({(pair.a, pair.b): pair for pair in made if pair.a != pair.b}.values())


def questions(data: Path, chance: random.Random) -> list[str]:
    """Short questions of the outcome sets, in random order."""
    found: set[str] = set()
    for name, column in (
        ("llmrouter_nine_models.jsonl", "question"),
        ("mmlu_mixtral_gpt4.jsonl", "prompt"),
        ("gsm8k_mixtral_gpt4.jsonl", "prompt"),
    ):
        for line in (data / name).read_text("utf-8").strip().split("\n"):
            found.update(_short_questions(json.loads(line)[column]))
    ranked = sorted(found)
    chance.shuffle(ranked)
    return ranked[:_MOST_REAL]


def _short_questions(text: str) -> Iterator[str]:
    if len(text) < 110 and "\n" not in text and re.match(r"(who|what|when|where|how|why|which)\b", text):
        yield text
    for match in _SENTENCE.finditer(text):
        if 4 <= len(match.group().split()) <= _LONGEST_REAL and "Which of the following" not in match.group():
            yield match.group()
            return


# ------------------------------------------------------------------------------------------------------- templates


@dataclass(frozen=True, slots=True)
class Family:
    """Intents about the same thing, each in several wordings."""

    number: int
    intents: tuple[tuple[str, ...], ...]


@lru_cache(maxsize=1)
def families() -> tuple[Family, ...]:
    """What pair_templates.txt holds."""
    blocks = [
        [tuple(line.split(" | ")) for line in block.splitlines() if line and not line.startswith("#")]
        for block in _text("pair_templates.txt").split("\n\n")
    ]
    return tuple(Family(at, tuple(block)) for at, block in enumerate(block for block in blocks if block))


@lru_cache(maxsize=1)
def slots() -> dict[str, tuple[str, ...]]:
    """What pair_slots.txt holds."""
    lines = [line.split(": ", 1) for line in _text("pair_slots.txt").splitlines() if not line.startswith("#")]
    return {name: tuple(words.split(" | ")) for name, words in lines}


def _text(name: str) -> str:
    return resources.files("farthing_models").joinpath(name).read_text("utf-8")


def _from_templates(chance: random.Random) -> Iterator[Pair]:
    for family in families():
        for at, wordings in enumerate(family.intents):
            for _ in range(_FILLS):
                filling = _filling(wordings, chance)
                texts = [_filled(wording, filling) for wording in wordings]
                group = f"family-{family.number}"
                yield from _wordings(texts, group, chance)
                yield from _swapped(wordings, filling, group, chance)
                yield from _other_intents(texts, family, at, filling, group, chance)
                yield from _edited(chance.choice(texts), group, chance)


def _filling(wordings: Sequence[str], chance: random.Random) -> dict[str, str]:
    names = {match.group(1) + match.group(2) for wording in wordings for match in _SLOT.finditer(wording)}
    filling: dict[str, str] = {}
    for name in sorted(names):
        options = [word for word in _options(name) if word not in filling.values()]
        filling[name] = chance.choice(options)
    return filling


def _options(name: str) -> tuple[str, ...]:
    return slots()[name] if name in slots() else slots()[name.removesuffix("2")]


def _filled(wording: str, filling: dict[str, str]) -> str:
    for name, word in filling.items():
        wording = wording.replace("{" + name + "}", word)
    return wording[0].upper() + wording[1:] if wording[-1] in "?." else wording


def _wordings(texts: Sequence[str], group: str, chance: random.Random) -> Iterator[Pair]:
    two = list(combinations(texts, 2))
    for a, b in chance.sample(two, min(4, len(two))):
        yield Pair(a, b, True, "paraphrase", group)
    a, b = chance.choice(two)
    yield Pair(_near(a, chance), _near(b, chance), True, "paraphrase", group)


def _swapped(wordings: Sequence[str], filling: dict[str, str], group: str, chance: random.Random) -> Iterator[Pair]:
    """Another word of the same kind in a slot; both slots exchanged; with the same wording, and with another."""
    for name in filling:
        options = [word for word in _options(name) if word not in filling.values()]
        if not options:
            continue
        other = filling | {name: chance.choice(options)}
        one, two = chance.sample(list(wordings), 2)
        kind = "number" if name.startswith("n") else "entity"
        yield Pair(_filled(one, filling), _filled(one, other), False, kind, group)
        yield Pair(_filled(one, filling), _filled(two, other), False, kind, group)
    names = sorted(filling)
    if len(names) == 2 and names[1] == names[0] + "2":
        turned = {names[0]: filling[names[1]], names[1]: filling[names[0]]}
        one = chance.choice(list(wordings))
        if not _symmetric(wordings[0]):
            yield Pair(_filled(one, filling), _filled(one, turned), False, "order", group)
        elif re.search(r"\b(and|or)\b", one):
            yield Pair(_filled(one, filling), _filled(one, turned), True, "reordered", group)


def _symmetric(wording: str) -> bool:
    return bool(re.search(r"differ|distance|far is|Should I|times", wording))


def _other_intents(
    texts: Sequence[str], family: Family, at: int, filling: dict[str, str], group: str, chance: random.Random
) -> Iterator[Pair]:
    others = [other for other in range(len(family.intents)) if other != at]
    for other in chance.sample(others, min(3, len(others))):
        wording = chance.choice(family.intents[other])
        complete = _filling([wording], chance) | filling
        yield Pair(chance.choice(list(texts)), _filled(wording, complete), False, "intent", group)


# ------------------------------------------------------------------------------------------------- edits of any text


def _from_questions(texts: Sequence[str], chance: random.Random) -> Iterator[Pair]:
    for at, text in enumerate(texts):
        group = f"question-{at}"
        yield from _edited(text, group, chance)
        yield Pair(text, _reworded(text, chance), True, "near", group)
        other = texts[(at + 1) % len(texts)]
        if (replaced := _word_replaced(text, other, chance)) is not None:
            yield Pair(text, replaced, False, "entity", group)


def _edited(text: str, group: str, chance: random.Random) -> Iterator[Pair]:
    """Near repeats, and one trap of each of some kinds that the text admits."""
    yield Pair(text, _near(text, chance), True, "near", group)
    yield Pair(_near(text, chance), _near(text, chance), True, "near", group)
    if (moved := reordered(text, chance)) is not None:
        yield Pair(text, moved if chance.random() < 0.7 else _near(moved, chance), True, "reordered", group)
    for kind, edit in chance.sample(_TRAPS, 5):
        changed = edit(text, chance)
        if changed is not None and changed != text:
            yield Pair(text, changed if chance.random() < 0.7 else _near(changed, chance), False, kind, group)


def _near(text: str, chance: random.Random) -> str:
    for edit in chance.sample(_HARMLESS, chance.choice((1, 1, 2, 3))):
        text = edit(text, chance)
    return text


def _lowered(text: str, chance: random.Random) -> str:
    return text.lower()


def _unmarked(text: str, chance: random.Random) -> str:
    return text.rstrip("?. ") if chance.random() < 0.6 else text.rstrip("?. ") + chance.choice(("??", " ?", "...", "!"))


_BEFORE: Final = (
    "Please tell me: ",
    "Hi, ",
    "Hello! ",
    "Quick question: ",
    "Hey, ",
    "Can you help me? ",
    "I was wondering, ",
    "Good morning. ",
    "Sorry to bother you, ",
    "Just curious: ",
    "I'd like to know: ",
    "Question: ",
    "hi there, ",
    "One thing I'd like to ask: ",
)
_AFTER: Final = (
    " Thanks!",
    " please",
    " Thank you in advance.",
    " Please help.",
    " thx",
    " Any help is welcome.",
    " Cheers",
    " Please explain.",
)


def _polite(text: str, chance: random.Random) -> str:
    return chance.choice(_BEFORE) + text if chance.random() < 0.5 else text + chance.choice(_AFTER)


def _mistyped(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.islower()]
    if not long:
        return text
    at = chance.choice(long)
    word, where = words[at], chance.randrange(1, len(words[at]) - 2)
    words[at] = chance.choice(
        (
            word[:where] + word[where + 1] + word[where] + word[where + 2 :],
            word[:where] + word[where + 1 :],
            word[:where] + word[where] + word[where:],
        )
    )
    return " ".join(words)


_FORMS: Final = (
    ("What is ", "What's "),
    ("what is ", "what's "),
    ("do not ", "don't "),
    ("I am ", "I'm "),
    ("I have ", "I've "),
    ("How do I ", "How can I "),
    ("How do I ", "How do you "),
    ("is not ", "isn't "),
    ("can not ", "can't "),
    ("What are the ", "What are "),
    ("How can I ", "How do I "),
    (" and ", " & "),
    ("Which ", "What "),
    ("In which year ", "In what year "),
    ("In which year ", "When "),
    ("color", "colour"),
    ("organiz", "organis"),
)


def _reformed(text: str, chance: random.Random) -> str:
    for one, other in chance.sample(_FORMS, len(_FORMS)):
        if one in text:
            return text.replace(one, other, 1)
    return text


_HARMLESS: Final[tuple[Callable[[str, random.Random], str], ...]] = (_lowered, _unmarked, _polite, _mistyped, _reformed)


def _reworded(text: str, chance: random.Random) -> str:
    """The question asked through another sentence."""
    inner = text.rstrip("?. ")
    small = inner[0].lower() + inner[1:] if inner.split()[0].lower() in _QUESTION_WORDS else inner
    form = chance.choice(
        (
            "Could you tell me {}?",
            "Do you know {}?",
            "I need to know {}",
            "Can you explain {}?",
            "{}, can you say?",
            "Tell me {}.",
            "My question is {}?",
        )
    )
    return form.format(small)


_QUESTION_WORDS: Final = frozenset("who what when where why how which is are can do does did in the if".split())


def _number_changed(text: str, chance: random.Random) -> str | None:
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    match = chance.choice(found)
    value = int(match.group()[:9])
    other = chance.choice((value + 1, max(0, value - 1), value + 10, value * 2 + 1, int(str(value)[::-1])))
    return text[: match.start()] + str(other) + text[match.end() :] if other != value else None


_AUXILIARY: Final = re.compile(r"\b(is|are|was|were|can|could|do|does|did|should|will|would|has|have)\b (\w+)")


def _negated(text: str, chance: random.Random) -> str | None:
    match = _AUXILIARY.search(text)
    if match is None:
        return None
    where = match.end(1) if match.group(2) in {"a", "an", "the", "it"} or chance.random() < 0.3 else match.end(2)
    return f"{text[:where]} {chance.choice(('not', 'not', 'never'))}{text[where:]}"


def _turned(text: str, chance: random.Random) -> str | None:
    words = text.split(" ")
    found = [at for at, word in enumerate(words) if word.strip("?.,").lower() in lexicon.OPPOSITES]
    if not found:
        return None
    at = chance.choice(found)
    bare = words[at].strip("?.,")
    words[at] = words[at].replace(bare, chance.choice(sorted(lexicon.OPPOSITES[bare.lower()])))
    return " ".join(words)


_SCOPES: Final = (
    "in Texas",
    "in Germany",
    "for beginners",
    "for children",
    "on a budget",
    "without sugar",
    "in winter",
    "at night",
    "before 1900",
    "since 2010",
    "at home",
    "for free",
    "for women",
    "for people over 65",
    "with diabetes",
    "under $100",
    "in a small town",
    "for vegetarians",
    "on weekends",
    "for students",
    "during pregnancy",
    "in the 19th century",
    "at high altitude",
    "for large companies",
    "without a licence",
    "in rural areas",
    "for dogs",
    "with a toddler",
    "in cold weather",
    "on a Mac",
    "for seniors",
    "while travelling",
    "in an emergency",
    "using only one hand",
    "as a non-resident",
)


def _narrowed(text: str, chance: random.Random) -> str | None:
    mark = "?" if text.endswith("?") else ""
    scope = chance.choice(_SCOPES)
    return None if scope in text else f"{text.rstrip('?. ')} {scope}{mark}"


def _asked_otherwise(text: str, chance: random.Random) -> str | None:
    match = re.match(r"(Who|What|When|Where|Why|How|Which)\b(?! (many|much|long|far|old))", text, re.IGNORECASE)
    if match is None:
        return None
    others = [word for word in ("Who", "When", "Where", "Why", "How") if word.lower() != match.group(1).lower()]
    return chance.choice(others) + text[match.end() :]


_STRENGTHS: Final = (
    ("most", "least"),
    ("all", "some"),
    ("some", "all"),
    ("the best", "the worst"),
    ("the", "only the"),
    ("first", "last"),
    ("more", "less"),
    ("the", "all the"),
    ("largest", "smallest"),
    ("highest", "lowest"),
    ("a", "every"),
    ("always", "sometimes"),
    ("many", "few"),
)


def _strengthened(text: str, chance: random.Random) -> str | None:
    for one, other in chance.sample(_STRENGTHS, len(_STRENGTHS)):
        if f" {one} " in text and other.split()[0] not in text:
            return text.replace(f" {one} ", f" {other} ", 1)
    return None


def _exchanged(text: str, chance: random.Random) -> str | None:
    match = re.search(
        r"\b(\w{4,}) (than|to|before|after|from|into|over|beats?|causes?|affects?|of) (?:the |a )?(\w{4,})\b", text
    )
    if match is None or match.group(1).lower() in _DULL or match.group(3).lower() in _DULL:
        return None
    middle = text[match.end(1) : match.start(3)]
    return text[: match.start(1)] + match.group(3) + middle + match.group(1) + text[match.end(3) :]


_DULL: Final = lexicon.STOP | lexicon.PREPOSITIONS


def _word_replaced(text: str, other: str, chance: random.Random) -> str | None:
    mine = [word for word in re.findall(r"\b[a-zA-Z]{4,}\b", text)[1:] if word.lower() not in _DULL]
    yours = [word for word in re.findall(r"\b[a-zA-Z]{4,}\b", other)[1:] if word.lower() not in _DULL]
    if not mine or not yours:
        return None
    out = chance.choice(mine)
    same_case = [word for word in yours if word[0].isupper() == out[0].isupper()] or yours
    return re.sub(rf"\b{out}\b", chance.choice(same_case), text, count=1)


_TRAPS: Final[tuple[tuple[str, Callable[[str, random.Random], str | None]], ...]] = (
    ("number", _number_changed),
    ("negation", _negated),
    ("antonym", _turned),
    ("scope", _narrowed),
    ("question", _asked_otherwise),
    ("quantifier", _strengthened),
    ("order", _exchanged),
    ("scope", _narrowed),
)
