"""Which tier an objective calls for, among those that may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from farthing_gateway.domain.options import TierOption
from farthing_gateway.domain.spending import Purse
from farthing_kit.money import format_usd

# Two tiers whose probabilities of success are this close are practically as good as each other: calibration is not
# finer (an expected calibration error of 0.02 to 0.03 is good), so the difference is not worth money.
PRACTICALLY_EQUAL: Final = 0.02


class RoutingReason(IntEnum):
    """What decided about a tier, as in farthing.gateway.v1.RoutingReason."""

    UNSPECIFIED = 0
    QUALITY_FLOOR = 1
    BEST_EFFORT = 2
    SPENDING_TARGET = 3
    FIXED_TIER = 4
    TASK_MODEL = 5
    SESSION = 6
    NO_SIGNAL = 7
    NO_ANALYSIS = 8
    CASCADE = 9


@dataclass(frozen=True, slots=True)
class Aim:
    """The option that an objective calls for, and why: a clause without its full stop."""

    option: TierOption
    reason: RoutingReason
    why: str


def cheapest_above(options: Sequence[TierOption], floor: float, practically_equal: float = PRACTICALLY_EQUAL) -> Aim:
    """The cheapest open option that reaches the floor. Where none does, the cheapest that is practically as good as the
    best: a dear tier that adds nothing is never bought. There must be an open option."""
    possible = [option for option in options if option.open]
    reaching = [option for option in possible if option.success >= floor]
    if reaching:
        option = min(reaching, key=lambda each: each.rank)
        why = f"The {_word(option)} tier is the cheapest to reach {floor:.2f} ({option.success:.2f} expected)"
        return Aim(option, RoutingReason.QUALITY_FLOOR, why)
    best = max(option.success for option in possible)
    as_good = [option for option in possible if option.success >= best - practically_equal]
    option = min(as_good, key=lambda each: each.rank)
    why = f"No tier reaches {floor:.2f}, and none is practically better than the {_word(option)} one"
    return Aim(option, RoutingReason.BEST_EFFORT, f"{why} ({option.success:.2f} expected)")


def best_for_money(options: Sequence[TierOption], purse: Purse) -> Aim | None:
    """The open option with the most success for its cost, of those that the purse pays for; the cheapest when it pays
    for none. None where the prices are not known."""
    possible = [option for option in options if option.open]
    if any(option.expected_cost is None for option in possible):
        return None
    target = f"the target of {format_usd(purse.target)} a request"
    paid_for = [option for option in possible if option.rank[0] <= purse.credit]
    if not paid_for:
        option = min(possible, key=lambda each: each.rank)
        why = f"The {_word(option)} tier is the cheapest, and {target} is used up for now"
        return Aim(option, RoutingReason.SPENDING_TARGET, why)
    option = max(paid_for, key=lambda each: (_value(each, purse.worth), -each.rank[0], -each.tier))
    why = f"The {_word(option)} tier is the best that {target} pays for ({option.success:.2f} expected)"
    return Aim(option, RoutingReason.SPENDING_TARGET, why)


def _value(option: TierOption, worth: float) -> float:
    return option.success - option.rank[0] / worth


def _word(option: TierOption) -> str:
    return option.tier.name.lower()
