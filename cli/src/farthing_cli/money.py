"""Money for people to read. Nothing is computed from these strings."""

NANOS_PER_UNIT = 1_000_000_000


def dollars(nano_units: int) -> str:
    """An amount to the nano-dollar: "$0.000012345"; whole cents when it has no smaller part."""
    sign = "-" if nano_units < 0 else ""
    units, nanos = divmod(abs(nano_units), NANOS_PER_UNIT)
    digits = f"{nanos:09d}"
    shown = digits[:2] if digits.endswith("0" * 7) else digits
    return f"{sign}${units:,}.{shown}"


def share(part: int, whole: int) -> str:
    """A part as a share of a whole: "97.3 %"; a dash when there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"
