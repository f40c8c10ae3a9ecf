"""Answers to requests that mean the same: near, not vetoed, verified, and within the bound."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from farthing_cache.app.answers import AnswerCache
from farthing_cache.app.evidence import Evidence
from farthing_cache.app.recorder import Compared, Recorder
from farthing_cache.domain import eligibility, profile, receipt
from farthing_cache.domain.answer import USER, CacheKey, Entry, Kept, Org, Wanted
from farthing_cache.domain.bound import Action, Decision, Reason
from farthing_cache.domain.errors import VerifierError
from farthing_cache.domain.hitlog import Outcome
from farthing_cache.domain.neighbours import Candidate, Meaning, Near, Place, narrow, ranked
from farthing_cache.domain.profile import Profile
from farthing_cache.domain.receipt import Receipt
from farthing_cache.domain.veto import Veto, veto
from farthing_cache.ports import Meter, Nearby, NeighbourStore, Secrets, Verifier
from farthing_kit.clock import Clock

OUTCOME_PURPOSE: Final = b"outcome"
PROFILE_PURPOSE: Final = b"profile"
NONCE_BYTES: Final = 8
# What narrowing to int8 may cost a cosine: candidates are looked for so much further away, and then computed exactly.
SLACK: Final = 0.01
_OF_REASON: Final = {
    Reason.ALLOWED: Outcome.SERVED,
    Reason.EXPLORED: Outcome.EXPLORED,
    Reason.THIN: Outcome.EVIDENCE,
    Reason.BOUND: Outcome.EVIDENCE,
    Reason.SCORE: Outcome.SCORE,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be answered by another's answer."""

    org: Org
    key: CacheKey
    meaning: Meaning
    category: int
    max_error_share: float
    wanted: Wanted = Wanted()
    min_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """What was found. `entry` is to be served if the outcome says so; else, with `compare`, a fresh answer is to be
    compared with it, and the receipt reported."""

    outcome: Outcome
    similarity: float = 0.0
    score: float = 0.0
    threshold: float = 0.0
    veto: Veto | None = None
    entry: Entry | None = None
    near: bytes = b""
    compare: bool = False
    receipt: bytes = b""

    @property
    def served(self) -> bool:
        """Whether the entry is the answer."""
        return self.outcome is Outcome.SERVED and self.entry is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """How far candidates are looked for, how many are verified, how long verifying may take, which δ is the most that
    a policy may ask for, and the share of misses that is compared for the sake of evidence."""

    floor: float = 0.7
    candidates: int = 5
    verifier_s: float = 0.01
    max_error_share: float = 0.1
    compare_share: float = 0.05


@dataclass(frozen=True, slots=True)
class _Best:
    """The candidate with the best score that nothing speaks against."""

    candidate: Candidate
    similarity: float
    score: float


@dataclass(frozen=True)
class SemanticCache:
    """Look-ups by meaning."""

    answers: AnswerCache
    nearby: Nearby
    store: NeighbourStore
    evidence: Evidence
    verifier: Verifier
    secrets: Secrets
    meter: Meter
    clock: Clock
    limits: Limits
    recorder: Recorder
    fraction: Callable[[], float]

    async def look_up(self, asked: Asked) -> Match:
        """The answer of a request that means the same, if it may be served."""
        match = await self._match(asked)
        self.answers.counts.semantic_hits += match.served
        self.answers.counts.semantic_misses += not match.served
        self.meter.compared("hit" if match.served else match.outcome.name.lower())
        self.recorder.compared(asked.org, asked.key, _summary(match))
        return match

    def kept(self, org: Org, key: CacheKey, meaning: Meaning) -> Kept | None:
        """What is kept of a request so that others find it; None if its answer may serve equal requests only."""
        words = self._profile(org, key, meaning.text)
        if not _eligible(words, key, meaning):
            return None
        return Kept(meaning.encoder, meaning.unit.astype("<f4").tobytes(), words.to_bytes())

    async def report(self, org: Org, name: bytes, *, right: bool) -> bool | None:
        """Count a label. False if it was counted before; None for a name that this mesh did not make for the
        organisation."""
        secret = self.secrets.secret(org, "", OUTCOME_PURPOSE)
        said = receipt.read(name, secret, self.clock.now().timestamp())
        if said is None:
            return None
        if not await self.evidence.first_report(org, OUTCOME_PURPOSE.decode() + said.nonce.hex()):
            return False
        await self.evidence.label(
            org,
            said.category,
            said.score,
            explored=said.explored,
            right=right,
            propensity=said.propensity,
            period=said.period,
        )
        return True

    async def _match(self, asked: Asked) -> Match:
        words = self._profile(asked.org, asked.key, asked.meaning.text)
        if not _eligible(words, asked.key, asked.meaning):
            return await self._without(asked, Match(Outcome.NOT_ELIGIBLE))
        if asked.meaning.encoder.hex() != self.verifier.encoder_sha256:
            return await self._without(asked, Match(Outcome.VERIFIER))
        place = Place.of(asked.key, asked.meaning.encoder)
        near = await self._near(asked, place)
        if not near.ids:
            return await self._without(asked, Match(Outcome.NO_CANDIDATE))
        found = await self._candidates(asked, place, near)
        if not found:
            return await self._without(asked, Match(Outcome.GONE))
        found = [one for one in found[: self.limits.candidates] if one[0] >= self.limits.floor]
        if not found:
            return await self._without(asked, Match(Outcome.NO_CANDIDATE))
        best = self._best(words, found)
        if isinstance(best, Match):
            return await self._without(asked, best)
        return await self._decided(asked, place, best)

    async def _near(self, asked: Asked, place: Place) -> Near:
        limits = self.limits
        return await self.nearby.near(
            asked.org,
            place,
            narrow(asked.meaning.unit),
            limits.candidates,
            limits.floor - SLACK,
            asked.wanted.min_tier,
        )

    async def _candidates(self, asked: Asked, place: Place, near: Near) -> list[tuple[float, Candidate]]:
        said = await self.store.candidates(asked.org, place, near.epoch, near.ids)
        gone = [one_id for one_id, one in zip(near.ids, said, strict=True) if one is None]
        if gone:
            self.nearby.gone(asked.org, place, gone)
        wanted = [one for one in said if one is not None and _takes(asked.wanted, one)]
        return ranked(asked.meaning.unit, wanted)

    def _best(self, words: Profile, found: list[tuple[float, Candidate]]) -> _Best | Match:
        """The best of the candidates, or why none is good."""
        nearest = Match(Outcome.VETO, found[0][0], near=found[0][1].id)
        started = self.clock.monotonic()
        try:
            profiles = {at: kept for at, (_, one) in enumerate(found) if (kept := _readable(one)) is not None}
            against = {at: veto(words, kept) for at, kept in profiles.items()}
            left = [at for at, speaks in against.items() if speaks is None]
            if not left:
                return replace(nearest, veto=against[min(against)]) if against else Match(Outcome.GONE)
            scores = self.verifier.scores(words, [profiles[at] for at in left], [found[at][0] for at in left])
        except VerifierError:
            return replace(nearest, outcome=Outcome.VERIFIER)
        if self.clock.monotonic() - started > self.limits.verifier_s:
            return replace(nearest, outcome=Outcome.VERIFIER)
        score, at = max(zip(scores, left, strict=True))
        return _Best(found[at][1], found[at][0], score)

    async def _without(self, asked: Asked, match: Match) -> Match:
        """A request without a candidate counts as well: the bound is a share of all requests."""
        if asked.max_error_share > 0:
            await self.evidence.observe(asked.org, asked.category, self._delta(asked))
        return match

    async def _decided(self, asked: Asked, place: Place, best: _Best) -> Match:
        found = Match(Outcome.EVIDENCE, best.similarity, best.score, near=best.candidate.id, threshold=1.01)
        if asked.max_error_share <= 0:
            return found
        if best.score < asked.min_score:
            await self._without(asked, found)
            return replace(found, outcome=Outcome.SCORE, threshold=asked.min_score)
        decision, threshold = await self.evidence.decide(asked.org, asked.category, self._delta(asked), best.score)
        found = replace(found, outcome=_OF_REASON[decision.reason], threshold=max(threshold, asked.min_score))
        compare = decision.action is Action.EXPLORE or self._compares(decision)
        if decision.action is Action.MISS and not compare:
            return found
        entry = await self.answers.take(asked.org, place, best.candidate.id, asked.wanted)
        if entry is None:
            self.nearby.gone(asked.org, place, [best.candidate.id])
            return replace(found, outcome=Outcome.GONE)
        self.nearby.earned(asked.org, place, entry.cost_nano_usd)
        return replace(found, entry=entry, compare=compare, receipt=self._receipt(asked, best.score, decision))

    def _compares(self, decision: Decision) -> bool:
        """Whether a miss is compared for evidence: each while evidence is thin, then a share."""
        if decision.action is not Action.MISS:
            return False
        return decision.reason is Reason.THIN or self.fraction() < self.limits.compare_share

    def _receipt(self, asked: Asked, score: float, decision: Decision) -> bytes:
        said = Receipt(
            asked.category,
            score,
            decision.action is Action.EXPLORE,
            decision.propensity,
            decision.period,
            int(self.clock.now().timestamp()),
            secrets.token_bytes(NONCE_BYTES),
        )
        return receipt.write(said, self.secrets.secret(asked.org, "", OUTCOME_PURPOSE))

    def _delta(self, asked: Asked) -> float:
        return min(asked.max_error_share, self.limits.max_error_share)

    def _profile(self, org: Org, key: CacheKey, text: str) -> Profile:
        return profile.of(text, self.secrets.secret(org, key.sharers, PROFILE_PURPOSE))


def _eligible(words: Profile, key: CacheKey, meaning: Meaning) -> bool:
    """Whether a request may serve, or be served by, another. What depends on who asks may, where nobody else shares."""
    rules = eligibility.Rules(personal=key.sharers.startswith(USER))
    if meaning.truncated or eligibility.ineligible(words, rules) is not None:
        return False
    return not meaning.has_history or eligibility.stands_alone(words)


def _readable(candidate: Candidate) -> Profile | None:
    """The profile of a candidate; None for one that another version wrote: what it left out cannot be compared."""
    try:
        return Profile.from_bytes(candidate.profile)
    except ValueError:
        return None


def _takes(wanted: Wanted, candidate: Candidate) -> bool:
    """Whether a caller takes the answer of a candidate."""
    young = wanted.max_age is None or candidate.age < wanted.max_age
    return young and candidate.tier >= wanted.min_tier and bool(candidate.profile)


def _summary(match: Match) -> Compared:
    return Compared(
        match.outcome if match.served or match.outcome is not Outcome.SERVED else Outcome.GONE,
        match.veto.value if match.veto else "",
        match.near,
        match.similarity,
        match.score,
        match.entry.cost_nano_usd if match.served and match.entry else 0,
    )
