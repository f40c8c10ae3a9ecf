"""What the cache needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import CacheKey, Entry, Epoch, Extent, Mark, Moment, Offer, Org, Wanted
from farthing_cache.domain.flight import Claim, Progress
from farthing_cache.domain.hitlog import Record
from farthing_cache.domain.neighbours import Candidate, Int8s, Near, News, Place
from farthing_cache.domain.profile import Profile


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up found: where the organisation stands, an entry if there is one, and what the claim led to, if
    one was made."""

    epoch: Epoch
    mark: Mark
    entry: Entry | None = None
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Claiming:
    """A wish to make the answer: the token of the lease, and the random number that decides about early refresh."""

    token: bytes
    refresh_lead: float


# An offset that says: this is the whole text, whatever was published before.
WHOLE: Final = -1


class AnswerStore(Protocol):
    """Answers by organisation and key, in partitions that can be forgotten at once.

    A partition has an epoch: a number that only ever grows. Entries belong to the epoch they were kept in, and to
    labels (model, tags) whose invalidation forgets them. Every method is one atomic step, by the clock of the store,
    and raises StoreUnavailable within milliseconds when the store cannot be reached.
    """

    async def find(self, org: Org, key: CacheKey, wanted: Wanted, claiming: Claiming | None = None) -> Found:
        """The entry of this epoch that is wanted, if there is one; else, with `claiming`, who makes it."""
        ...

    async def take(self, org: Org, place: Place, entry_id: bytes, wanted: Wanted) -> Entry | None:
        """The entry of a place by its id, if it is wanted."""
        ...

    async def keep(self, org: Org, key: CacheKey, offer: Offer, epoch: Epoch) -> tuple[Verdict, int]:
        """Keep an answer if nothing it belongs to was forgotten since its look-up and there is room, or what is worth
        less can go; what became of it, and how many entries went. Renews an entry."""
        ...

    async def forget(self, org: Org, extent: Extent, idempotency_key: str) -> Epoch:
        """Forget, once for each key within a day; the epoch that came of it. IdempotencyMismatch, and nothing is
        forgotten, where the key was used for another extent."""
        ...


class FlightStore(Protocol):
    """Answers that are being made, each at the moment of its look-up: who asks after an invalidation, whatever it was
    about, does not meet an answer that was begun before. One atomic step each; StoreUnavailable as above."""

    async def publish(
        self, org: Org, key: CacheKey, at: Moment, token: bytes, offset: int, text: bytes, provenance: bytes | None
    ) -> bool:
        """Add text at an offset and prolong the lease; with `provenance`, end it. An offset of WHOLE: `text` is all
        of it. False: the lease is lost."""
        ...

    async def release(self, org: Org, key: CacheKey, at: Moment, token: bytes, reason: str) -> bool:
        """Give the lease up; whether it was still held."""
        ...

    async def progress(self, org: Org, key: CacheKey, at: Moment, attempt: int, offset: int, token: bytes) -> Progress:
        """What is new since `offset` of `attempt`. Takes over under `token` when the leader is lost."""
        ...


class NeighbourStore(Protocol):
    """Vectors of partitions, as a log that replicas read along; and what is kept of single entries."""

    async def news(self, org: Org, place: Place, after: str, limit: int) -> News:
        """What was added to the log of a partition after a position ("0": from its beginning)."""
        ...

    async def candidates(self, org: Org, place: Place, epoch: Epoch, ids: Sequence[bytes]) -> list[Candidate | None]:
        """Entries by their ids; None for those that are gone or forgotten."""
        ...


class Nearby(Protocol):
    """Where entries are found by meaning. What it says is where to look: the entries themselves decide."""

    async def near(self, org: Org, place: Place, vector: Int8s, count: int, floor: float, min_tier: int) -> Near:
        """The nearest entries: about so many, and, where that can be known, at or above a cosine and a tier."""
        ...

    def earned(self, org: Org, place: Place, nano_usd: int) -> None:
        """An entry of a place avoided a cost."""
        ...

    def gone(self, org: Org, place: Place, ids: list[bytes]) -> None:
        """Entries that were found, and are not there any more."""
        ...

    def forget(self, org: Org) -> None:
        """The memory of an organisation's entries is wanted back."""
        ...

    async def catch_up(self) -> None:
        """What it has to do between look-ups; runs until cancelled."""
        ...

    @property
    def partitions(self) -> int:
        """Partitions in the memory of this replica."""
        ...

    @property
    def vectors(self) -> int:
        """Their vectors."""
        ...

    @property
    def size_bytes(self) -> int:
        """Their size."""
        ...


class Secrets(Protocol):
    """Keys that nobody outside the mesh has, one for each organisation, circle of sharers, and purpose."""

    def secret(self, org: Org, sharers: str, purpose: bytes) -> bytes:
        """32 bytes."""
        ...

    def entry_id(self, org: Org, key: CacheKey) -> bytes:
        """The id of a request's entry within its place: 16 bytes."""
        ...


class EvidenceStore(Protocol):
    """What thresholds rest on, by organisation and kind of work, over all replicas."""

    async def load(self, org: Org, category: int) -> tuple[int, bytes]:
        """The version and the value; 0 and nothing before the first."""
        ...

    async def replace(self, org: Org, category: int, version: int, value: bytes) -> bool:
        """Write, if the version is still that; whether it was."""
        ...

    async def first_report(self, org: Org, report: str) -> bool:
        """Whether this is the first time within a day that a report is made."""
        ...


class Eraser(Protocol):
    """Where everything of all organisations is kept."""

    async def erase(self, org: Org) -> int:
        """Remove what there is of an organisation; how many keys it had."""
        ...


class LogStore(Protocol):
    """Look-ups as they were, for analysis. Bounded: the oldest go first."""

    async def append(self, org: Org, records: Sequence[Record], dropped: int) -> None:
        """Add some records, and how many were dropped before they came here."""
        ...

    async def read(self, org: Org, since_ms: int) -> tuple[list[Record], int]:
        """Records from a moment on, oldest first, and how many were ever dropped."""
        ...


class Verifier(Protocol):
    """Says how probable it is that the answer to one prompt serves another."""

    @property
    def encoder_sha256(self) -> str:
        """The encoder, in hex, whose cosines it was trained on: those of another say something else."""
        ...

    def scores(self, asked: Profile, kept: Sequence[Profile], cosines: Sequence[float]) -> list[float]:
        """For each of the kept ones, 0 to 1. Raises VerifierError; takes a few hundred microseconds."""
        ...


class Announcer(Protocol):
    """Tells the gateways what their memories must forget."""

    async def forgotten(self, org: Org) -> None:
        """Returns when no gateway serves from its memory what was there before; raises StoreUnavailable when the word
        did not get out."""
        ...

    async def erased(self, org: Org) -> None:
        """The same, and every replica of the cache has forgotten what it remembers of an organisation."""
        ...


class Meter(Protocol):
    """Shows what happened to whoever watches."""

    def looked_up(self, *, hit: bool) -> None:
        """A look-up ended with or without an answer."""
        ...

    def compared(self, outcome: str) -> None:
        """A semantic look-up ended: "hit", or why not."""
        ...

    def claimed(self, outcome: str) -> None:
        """A claim led to "lead", "follow" or "takeover"."""
        ...

    def stored(self, *, kept: bool) -> None:
        """An answer was kept, or came too late, or found no room."""
        ...

    def failed(self) -> None:
        """A call failed because the store could not be reached."""
        ...
