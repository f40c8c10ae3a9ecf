"""Which of the events of one caller's request are charged: one attempt's, whatever came how often and in which order.

The rule is the one of the contract, usage_event.proto, message Attempt. It looks at all events at once and at no order,
so that every replica and `Verify` find the same. What is not charged is waste of the platform.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farthing_accounting.domain.usage import NO_TIME, EventId
from farthing_kit.money import NanoUsd


@dataclass(frozen=True, slots=True)
class Call:
    """What the rule looks at of one event. `superseded` is the id of the call whose answer was not good enough; empty
    for most. Not well ended what was cancelled."""

    id: EventId
    begin_time: datetime
    end_time: datetime
    ended_well: bool
    cost: NanoUsd
    superseded: str = ""


def charged(calls: Iterable[Call]) -> frozenset[EventId]:
    """The ids of those that the caller pays for: at least one, where there is any."""
    attempts: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        attempts[call.id.attempt_id].append(call)
    if not attempts:
        return frozenset()
    name = max(attempts, key=lambda name: (_rank_of_attempt(attempts[name]), name))
    return frozenset(call.id for call in _paid_of_attempt(attempts[name]))


def _rank_of_attempt(made: Sequence[Call]) -> tuple[bool, bool, datetime, int]:
    """The caller was told of the answer that began last; where none ended well, the dearest attempt counts. An answer
    from a cache takes the place of none that a model made, or asking twice would be a way not to pay for the first."""
    paid = _paid_of_attempt(made)
    if not paid[0].ended_well:
        return False, False, NO_TIME, sum(call.cost for call in paid)
    return True, not paid[0].id.is_hit, max(call.begin_time for call in made), 0


def _paid_of_attempt(made: Iterable[Call]) -> list[Call]:
    """Its last call, which says how it ended, and those that this one supersedes. A call that supersedes none replaces
    what came before."""
    calls = _one_run_of_each(made)
    named = {call.superseded for call in calls.values()}
    last = max(calls.values(), key=lambda call: (call.id.request_id not in named, *_how_late(call)))
    paid: dict[str, Call] = {}
    following: Call | None = last
    while following is not None and following.id.request_id not in paid:
        paid[following.id.request_id] = following
        following = calls.get(following.superseded)
    return list(paid.values())


def _how_late(call: Call) -> tuple[bool, str]:
    """The first call has the request's id, later ones that with a suffix. When they ended says nothing: a worker that
    hung may end a call long after the next one took its place."""
    return call.ended_well, call.id.request_id


def _one_run_of_each(made: Iterable[Call]) -> Mapping[str, Call]:
    """The run that ended well and was delivered last; where none did, the dearest."""
    chosen: dict[str, Call] = {}
    for call in made:
        other = chosen.get(call.id.request_id)
        if other is None or _rank_of_run(call) > _rank_of_run(other):
            chosen[call.id.request_id] = call
    return chosen


def _rank_of_run(call: Call) -> tuple[bool, int, int]:
    return call.ended_well, call.id.run if call.ended_well else call.cost, call.id.run
