"""One guard kept by several replicas: each adds what it has seen since it last read what all have seen."""

from __future__ import annotations

from typing import Any, Final

# What a new period of the account begins anew.
_PERIOD: Final = ("in_period", "served", "account")
_LAST_MOVED: Final = frozenset({"threshold", "period"})
_AS_IT_IS: Final = frozenset({"version", "doubt", "stakes"})
_SIGNED: Final = frozenset({"paid"})


def merged(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The state of a guard after what happened here since `base` is added to what others have written meanwhile.

    Everything counted adds up; of two thresholds that moved the higher one holds; a period that began anew here begins
    anew for all.
    """
    anew = frozenset(_PERIOD) if mine["in_period"] < base["in_period"] else frozenset[str]()
    return {name: mine[name] if name in anew else _added(name, base[name], mine[name], theirs[name]) for name in mine}


def _added(name: str, base: Any, mine: Any, theirs: Any) -> Any:
    if name in _AS_IT_IS:
        return mine
    if name in _LAST_MOVED:
        return mine if theirs == base else theirs if mine == base else max(mine, theirs)
    if isinstance(mine, dict):
        return {inner: _added(inner, base[inner], mine[inner], theirs[inner]) for inner in mine}
    if isinstance(mine, list):
        sums = [theirs[at] + mine[at] - base[at] for at in range(len(mine))]
        return sums if name in _SIGNED else [max(0.0, one) for one in sums]
    return max(type(mine)(0), theirs + mine - base)
