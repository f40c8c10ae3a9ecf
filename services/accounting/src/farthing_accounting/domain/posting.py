"""What a batch of events does to the books: each is booked once, and a later one may move what was booked before.

The common case is one event for a caller's request. Several meet when a request was tried more than once, or answered
in two steps: then the rule of `charging` looks at all of them, and what stands on the wrong side is moved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from farthing_accounting.domain.charging import Call, charged
from farthing_accounting.domain.ledger import Booking
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import Settlement
from farthing_accounting.domain.usage import CallerRequest, EventId
from farthing_kit.money import NanoUsd
from farthing_kit.usage import Tokens


@dataclass(frozen=True, slots=True)
class Booked:
    """An event that is in the books: `charged` is where it stands after `moves` moves, `newest` the last of these."""

    call: Call
    digest: bytes
    caller_request: CallerRequest
    principal: Principal
    tokens: Tokens
    transaction_id: int
    newest: int
    moves: int
    charged: bool


@dataclass(frozen=True, slots=True)
class New:
    """A booking that is not in the books yet."""

    booking: Booking
    charged: bool


@dataclass(frozen=True, slots=True)
class Move:
    """What brings a booked event to where it belongs now."""

    booked: Booked
    charged: bool

    @property
    def number(self) -> int:
        """Counts the moves of an event, from 1."""
        return self.booked.moves + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written for a batch."""

    new: Mapping[EventId, New]
    moves: Sequence[Move]


class PostedState(Enum):
    """What became of an event."""

    BOOKED = "booked"
    REPEATED = "repeated"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Posted:
    """`transaction_id` is the event's own, whenever it was booked; 0 on conflict: its id was taken by another body.

    `settlements` is what counters have to hear of: the event, and those that it moved. When it comes again, it is
    everything of the caller's request: nobody knows what was heard of the first time."""

    state: PostedState
    transaction_id: int
    settlements: tuple[Settlement, ...] = ()


def plan(bookings: Sequence[Booking], known: Iterable[Booked]) -> Plan:
    """`known` holds at least the booked events with an id of the bookings, and those of the same callers' requests. Of
    several bookings with one id the first is taken."""
    booked = {one.call.id: one for one in known}
    new: dict[EventId, Booking] = {}
    groups: dict[CallerRequest, list[EventId]] = defaultdict(list)
    for booking in bookings:
        name = booking.event.id
        if name not in booked and name not in new:
            new[name] = booking
            groups[booking.event.caller_request].append(name)
    met: dict[CallerRequest, list[Booked]] = defaultdict(list)
    for one in booked.values():
        if one.caller_request in groups:
            met[one.caller_request].append(one)
    paid: set[EventId] = set()
    for caller, names in groups.items():
        if len(names) == 1 and caller not in met:
            paid.update(names)  # most: there is no choice
        else:
            paid |= charged([*(new[name].call for name in names), *(one.call for one in met[caller])])
    return Plan(
        {name: New(booking, name in paid) for name, booking in new.items()},
        [
            Move(one, not one.charged)
            for ones in met.values()
            for one in ones
            if one.charged is not (one.call.id in paid)
        ],
    )


def posted(
    bookings: Sequence[Booking], known: Sequence[Booked], made: Plan, ids: Mapping[EventId, int]
) -> list[Posted]:
    """What became of each, once the plan is written: `ids` are the transactions of what is new, or moved."""
    booked = {one.call.id: one for one in known}
    moved: dict[CallerRequest, list[Settlement]] = defaultdict(list)
    for move in made.moves:
        moved[move.booked.caller_request].append(_of_move(move, ids[move.booked.call.id]))
    found = []
    for booking in bookings:
        name = booking.event.id
        new = made.new.get(name)
        if new is None:
            found.append(_again(booking, booked[name], known))
        elif new.booking is booking:
            moves = moved.pop(booking.event.caller_request, ()) if moved else ()
            own = _of_event(booking, ids[name], charged=new.charged)
            found.append(Posted(PostedState.BOOKED, ids[name], (*own, *moves)))
        elif new.booking.event.digest() == booking.event.digest():
            own = _of_event(booking, ids[name], charged=new.charged)
            found.append(Posted(PostedState.REPEATED, ids[name], own))
        else:
            found.append(_CONFLICT)
    return found


_CONFLICT: Final = Posted(PostedState.CONFLICT, 0)


def _again(booking: Booking, old: Booked, known: Sequence[Booked]) -> Posted:
    """It is in the books: it, and all of the same caller's request, are recounted, where amounts do not matter."""
    if booking.event.digest() != old.digest:
        return _CONFLICT
    others = (
        Settlement(one.newest, "", one.principal, one.call.end_time, one.call.cost, one.tokens)
        for one in known
        if one.caller_request == old.caller_request and one is not old
    )
    own = _of_event(booking, old.newest, charged=old.charged)
    return Posted(PostedState.REPEATED, old.transaction_id, (*own, *others))


def _of_event(booking: Booking, transaction_id: int, *, charged: bool) -> tuple[Settlement, ...]:
    """Its reservation is closed also where it is waste. Nothing, where nothing was spent or held."""
    if not booking.counts:
        return ()
    event = booking.event
    return (
        Settlement(
            transaction_id=transaction_id,
            reservation_id=event.reservation_id,
            principal=event.principal,
            end_time=event.end_time,
            amount=booking.cost if charged else NanoUsd(0),
            tokens=event.usage.total if charged else Tokens(0),
        ),
    )


def _of_move(move: Move, transaction_id: int) -> Settlement:
    sign = 1 if move.charged else -1
    one = move.booked
    amount, tokens = NanoUsd(sign * one.call.cost), Tokens(sign * one.tokens)
    return Settlement(transaction_id, "", one.principal, one.call.end_time, amount, tokens)
