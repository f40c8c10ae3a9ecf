"""What recorded look-ups say: what repeats, which hits were lost and to what, and what other settings would have
given."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Final

from farthing_cache.domain.hitlog import NOBODY, Event, Outcome, Record

EXACT_ONLY: Final = 1.0
THRESHOLDS: Final = (EXACT_ONLY, 0.95, 0.9, 0.8)
LIVES: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 10, 60, 6 * 60, 24 * 60, 7 * 24 * 60))
SIZES: Final = (0,)
# An engine keeps a prefix about so long.
PREFIX_LIFE_MS: Final = 5 * 60_000
# A look-up by meaning belongs to the exact one before it, if that was no longer ago.
SAME_REQUEST_MS: Final = 60_000
# The share of the best saving that smaller settings must reach to be advised.
GOOD_ENOUGH: Final = 0.95

Key = tuple[bytes, bytes]


@dataclass(slots=True)
class Look:
    """One request: an exact look-up, and the one by meaning that followed a miss."""

    at_ms: int
    key: Key
    prefix: bytes
    exact: bool
    semantic: Record | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a cache: the threshold of the score (1: exact only), the life of entries, how many (0: unbounded)."""

    threshold: float
    life: timedelta
    size: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """What settings would have given."""

    settings: Settings
    exact: int
    semantic: int
    looks: int
    avoided: int

    @property
    def share(self) -> float:
        """Hits of both kinds, of all look-ups."""
        return (self.exact + self.semantic) / max(1, self.looks)


@dataclass(frozen=True, slots=True)
class Question:
    """What to simulate, and how far back."""

    window: timedelta | None = None
    thresholds: tuple[float, ...] = THRESHOLDS
    lives: tuple[timedelta, ...] = LIVES
    sizes: tuple[int, ...] = SIZES

    def choices(self, present: float) -> list[Settings]:
        """Every combination, also with the lowest score that is served at present."""
        thresholds = self.thresholds if present in self.thresholds else (*self.thresholds, present)
        return [Settings(*one) for one in product(thresholds, self.lives, self.sizes)]


@dataclass(frozen=True, slots=True)
class Losses:
    """Hits that there might have been."""

    expiry: int = 0
    partitioning: int = 0
    threshold: int = 0
    evidence: int = 0
    veto: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Analysis:
    """All of it. Times in ms, money in nano-dollars."""

    looks: int
    start_ms: int
    end_ms: int
    exact: int
    semantic: int
    repeats: int
    near_repeats: int
    shared_prefixes: int
    avoided: int
    losses: Losses
    simulations: list[Simulation]
    advised: Simulation | None
    advice: str


def analyze(records: Iterable[Record], question: Question) -> Analysis:
    """The analysis of recorded look-ups, in any order."""
    ordered = sorted(records, key=lambda record: record.at_ms)
    looks, costs = _looks(ordered), _costs(ordered)
    present = _lowest_served(looks)
    simulations = [simulate(looks, costs, settings) for settings in question.choices(present)]
    advised = advise(simulations, present)
    exact, semantic = sum(look.exact for look in looks), sum(map(_served, looks))
    losses = _losses(ordered, looks)
    return Analysis(
        looks=len(looks),
        start_ms=looks[0].at_ms if looks else 0,
        end_ms=looks[-1].at_ms if looks else 0,
        exact=exact,
        semantic=semantic,
        repeats=_repeats(looks),
        near_repeats=sum(look.semantic is not None and look.semantic.near != NOBODY for look in looks),
        shared_prefixes=_shared_prefixes(looks),
        avoided=sum(r.cost_nano_usd for r in ordered if r.event is not Event.STORE),
        losses=losses,
        simulations=simulations,
        advised=advised,
        advice=_advice(len(looks), exact + semantic, losses, advised),
    )


def simulate(looks: Sequence[Look], costs: dict[Key, int], settings: Settings) -> Simulation:
    """Go through the look-ups with an empty cache of those settings. Only requests whose answers were kept at some
    time are kept; the least recently used go first."""
    kept: OrderedDict[Key, int] = OrderedDict()
    life_ms = settings.life / timedelta(milliseconds=1)
    exact = semantic = avoided = 0
    for look in looks:
        if _fresh(kept, look.key, look.at_ms, life_ms):
            exact += 1
            avoided += costs.get(look.key, 0)
        elif (near := _near(look, settings.threshold)) and _fresh(kept, near, look.at_ms, life_ms):
            semantic += 1
            avoided += costs.get(near, 0)
        elif look.key in costs:
            kept[look.key] = look.at_ms
            kept.move_to_end(look.key)
            if settings.size and len(kept) > settings.size:
                kept.popitem(last=False)
    return Simulation(settings, exact, semantic, len(looks), avoided)


def advise(simulations: Sequence[Simulation], lowest_served: float) -> Simulation | None:
    """The smallest settings that reach most of the best saving, at no lower a threshold than is served at present."""
    allowed = [one for one in simulations if one.settings.threshold >= lowest_served]
    best = max((one.avoided for one in allowed), default=0)
    good = [one for one in allowed if best and one.avoided >= GOOD_ENOUGH * best]
    return min(
        good,
        key=lambda one: (-one.settings.threshold, one.settings.life, one.settings.size or float("inf")),
        default=None,
    )


def _looks(ordered: Iterable[Record]) -> list[Look]:
    looks: list[Look] = []
    last: dict[Key, Look] = {}
    for record in ordered:
        key = (record.prompt, record.place)
        if record.event in (Event.MISS, Event.EXACT):
            look = Look(record.at_ms, key, record.prefix, record.event is Event.EXACT)
            looks.append(look)
            last[key] = look
        elif record.event is Event.SEMANTIC:
            before = last.get(key)
            if before is not None and before.semantic is None and record.at_ms - before.at_ms <= SAME_REQUEST_MS:
                before.semantic = record
    return looks


def _costs(ordered: Iterable[Record]) -> dict[Key, int]:
    """What the answers cost that were kept at some time."""
    costs: dict[Key, int] = {}
    for record in ordered:
        if record.event in (Event.STORE, Event.EXACT):
            costs[record.prompt, record.place] = record.cost_nano_usd
    return costs


def _near(look: Look, threshold: float) -> Key | None:
    found = look.semantic
    if threshold >= EXACT_ONLY or found is None or found.near == NOBODY or found.veto or found.score < threshold:
        return None
    return (found.near, look.key[1])


def _fresh(kept: OrderedDict[Key, int], key: Key, at_ms: int, life_ms: float) -> bool:
    since = kept.get(key)
    if since is None:
        return False
    if at_ms - since >= life_ms:
        del kept[key]
        return False
    kept.move_to_end(key)
    return True


def _served(look: Look) -> bool:
    return look.semantic is not None and look.semantic.outcome is Outcome.SERVED


def _lowest_served(looks: Iterable[Look]) -> float:
    scores = [look.semantic.score for look in looks if look.semantic is not None and _served(look)]
    return min(scores, default=EXACT_ONLY)


def _repeats(looks: Iterable[Look]) -> int:
    seen: set[Key] = set()
    repeats = 0
    for look in looks:
        repeats += look.key in seen
        seen.add(look.key)
    return repeats


def _shared_prefixes(looks: Iterable[Look]) -> int:
    last: dict[bytes, int] = {}
    shared = 0
    for look in looks:
        if look.prefix != NOBODY:
            shared += look.at_ms - last.get(look.prefix, -PREFIX_LIFE_MS - 1) <= PREFIX_LIFE_MS
            last[look.prefix] = look.at_ms
    return shared


def _losses(ordered: Iterable[Record], looks: Iterable[Look]) -> Losses:
    of_meaning = [look.semantic for look in looks if look.semantic is not None]
    outcomes = Counter(one.outcome for one in of_meaning)
    expiry, partitioning = _lost_exactly(ordered)
    return Losses(
        expiry,
        partitioning,
        outcomes[Outcome.SCORE],
        outcomes[Outcome.EVIDENCE] + outcomes[Outcome.EXPLORED],
        Counter(one.veto for one in of_meaning if one.outcome is Outcome.VETO),
    )


def _lost_exactly(ordered: Iterable[Record]) -> tuple[int, int]:
    """Misses of what had been kept: in the same place, and only in others."""
    kept: set[Key] = set()
    prompts: set[bytes] = set()
    expiry = partitioning = 0
    for record in ordered:
        key = (record.prompt, record.place)
        if record.event is Event.STORE:
            kept.add(key)
            prompts.add(record.prompt)
        elif record.event is Event.MISS:
            expiry += key in kept
            partitioning += key not in kept and record.prompt in prompts
    return expiry, partitioning


def _advice(looks: int, hits: int, losses: Losses, advised: Simulation | None) -> str:
    if not looks:
        return "Nothing is recorded yet."
    if advised is None:
        return "Nothing that could be kept repeats: a cache saves nothing on this traffic."
    settings = advised.settings
    how = "equal requests only" if settings.threshold >= EXACT_ONLY else f"scores from {settings.threshold:.2f}"
    size = f", {settings.size:,} entries" if settings.size else ""
    gain = (
        f"Keep answers for {_spoken(settings.life)}{size}, serve {how}: {advised.share:.1%} of the look-ups would hit"
    )
    lost = {
        "expired entries": losses.expiry,
        "other system prompts, histories or settings": losses.partitioning,
        "words that differ": sum(losses.veto.values()),
        "scores below the threshold": losses.threshold,
        "too little evidence": losses.evidence,
    }
    cause, most = max(lost.items(), key=lambda one: one[1])
    after = f"; most of what is lost now is lost to {cause} ({most / looks:.1%})" if most else ""
    return f"{gain} (now {hits / looks:.1%}){after}."


def _spoken(life: timedelta) -> str:
    minutes = round(life.total_seconds() / 60)
    for unit, name in ((24 * 60, "d"), (60, "h")):
        if minutes >= unit and minutes % unit == 0:
            return f"{minutes // unit} {name}"
    return f"{minutes} min" if minutes else f"{life.total_seconds():g} s"
