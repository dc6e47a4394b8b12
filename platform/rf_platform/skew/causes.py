"""Causes of differences: what a pattern of them says about what went wrong."""

from collections.abc import Sequence

from rf_platform.skew.difference import Difference, Status

LATE, ZONE, OVERWRITTEN, OFF_BY_ONE, ENCODER, RENAMED, LEAK, ABSENT = (
    "late materialisation",
    "wrong time zone",
    "overwritten in the store, or wrong join or code",
    "off-by-one history",
    "changed encoder",
    "renamed column",
    "value from the future",
    "not loaded",
)
_QUARTER, _MOST_ZONE = 900, 14 * 3600


def cause_of(differences: Sequence[Difference], *, history: bool) -> str:
    """Return the most likely cause of the differences of one field; empty where there are none.

    A shift by the same whole number of quarter hours everywhere is a wrong time zone. A history that lacks exactly one
    interaction everywhere, though the time of its row says that it has it, or that is one too short, was cut at the wrong place.

    Args:
        differences: those of the field, without what is equal.
        history: whether it is a column of the history.
    """
    if not differences:
        return ""
    if any(each.status is Status.ENCODED for each in differences):
        return ENCODER
    shifts = {each.shift for each in differences}
    if len(shifts) == 1 and (shift := shifts.pop()) and shift % _QUARTER == 0 and abs(shift) <= _MOST_ZONE:
        return ZONE
    if history and all(abs(each.events) == 1 and each.claims for each in differences):
        return OFF_BY_ONE
    counts = {status: sum(each.status is status for each in differences) for status in Status}
    worst = max(counts, key=lambda status: counts[status])
    return {
        Status.STALE: LATE,
        Status.EARLY: LEAK,
        Status.NEVER: OVERWRITTEN,
        Status.MISSING: ABSENT,
    }[worst]
