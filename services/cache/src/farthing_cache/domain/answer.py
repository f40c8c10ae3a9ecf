"""An answer that was paid for once, and the names under which it is found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NewType

from farthing_kit.usage import TokenUsage

Org = NewType("Org", str)
Epoch = NewType("Epoch", int)
# A moment among an organisation's invalidations: a number that only grows within an epoch. 0: not known.
Mark = NewType("Mark", int)

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was looked up, among the invalidations of its organisation. An answer that began at one moment is
    never served to who asks at a later one, unless it was kept, which is checked."""

    epoch: Epoch
    mark: Mark


# What the name of those who share an answer begins with, unless they are the whole organisation.
TEAM: Final = "team\0"
USER: Final = "user\0"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The identity of a request within its organisation: two SHA-256 digests, and who shares the answer ("" for the
    whole organisation). Equal keys may be served the same answer."""

    compatibility: bytes
    prompt: bytes
    sharers: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with its provenance: what making it took is what serving it again avoids."""

    text: str
    usage: TokenUsage
    tier: int
    model: str
    quantization: str
    created_at: datetime

    @property
    def size_bytes(self) -> int:
        """Length of the text in UTF-8: what the limit of an entry counts."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as a store holds it: how much longer it may be served, how old it is, how often it was served, and what
    making it took and cost. Both stretches are by the clock of the store."""

    answer: Answer
    time_to_live: timedelta
    age: timedelta = timedelta(0)
    hits: int = 0
    took: timedelta = timedelta(0)
    cost_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers a caller takes: younger than `max_age` if it is set, and of at least `min_tier`."""

    max_age: timedelta | None = None
    min_tier: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """An answer that somebody wants kept. `age` is how long ago it was written, whoever's clock said so; `meaning` lets
    requests find it that mean the same. No `time_to_live`: the longest."""

    answer: Answer
    time_to_live: timedelta | None = None
    mark: Mark = Mark(0)
    age: timedelta = timedelta(0)
    tags: tuple[str, ...] = ()
    took: timedelta = timedelta(0)
    cost_nano_usd: int = 0
    meaning: Kept | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a request's meaning: the encoder, the unit vector as little-endian float32, and the profile of
    its words. No text."""

    encoder: bytes
    embedding: bytes
    profile: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """What an invalidation is about: answers of a model, or with any of some tags; without either, all of them."""

    model: str = ""
    tags: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> bool:
        """Whether every answer of the organisation is meant."""
        return not self.model and not self.tags

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that an entry carries, and an invalidation counts up."""
        models = (model_label(self.model),) if self.model else ()
        return models + tuple(tag_label(tag) for tag in self.tags)


def labels_of(offer: Offer) -> tuple[str, ...]:
    """By which labels an entry may be forgotten: its model, and its tags."""
    return (model_label(offer.answer.model), *(tag_label(tag) for tag in offer.tags))


def model_label(model: str) -> str:
    """The label of a model; no tag has the same."""
    return f"model\0{model}"


def tag_label(tag: str) -> str:
    """The label of a tag; no model has the same."""
    return f"tag\0{tag}"
