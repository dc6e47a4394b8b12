"""Mean and deviation of a number among which a few are no real values, such as 1e30 for "unlimited"."""

from typing import NamedTuple

import duckdb

_RANGES = ((0.25, 0.75), (0.1, 0.9), (0.05, 0.95), (0.01, 0.99))
"""Shares of the values below the ends of the middle; the first range that holds more than one value counts."""
_FENCE = 100
"""How many widths of the middle a usual value lies beside it, at most."""
_DOMINATED = 100
"""How many deviations of the usual values the deviation of all is, at least, where outliers decide it."""
_LARGEST = 1e150
"""Squares of larger numbers overflow."""


class Moments(NamedTuple):
    """Mean and deviation of a feature's numbers."""

    mean: float
    std: float
    reach: float | None = None
    """Where outliers were left out: the largest deviation of all numbers from the mean, in standard deviations."""
    left_out: str = ""
    """What was left out, in words."""


def usual_moments(db: duckdb.DuckDBPyConnection, numbers: str) -> Moments:
    """Return mean and standard deviation, and what was left out of them.

    Both are those of all values, unless a few that lie far outside decide them: then ordinary values would all be the same small
    number of deviations to a model. Heavy tails, as prices have, are no outliers.

    Args:
        db: the database; its order of additions has to be fixed.
        numbers: a query for finite numbers ``v`` with weights ``n``.
    """
    plain = _moments(db, numbers)
    shares = sorted({share for pair in _RANGES for share in pair})
    quantiles = ", ".join(f"min(v) FILTER (upto >= {share} * total)" for share in shares)
    found = db.execute(
        f"""SELECT {quantiles} FROM (
            SELECT v, sum(n) OVER (ORDER BY v ROWS UNBOUNDED PRECEDING) AS upto, sum(n) OVER () AS total
            FROM (SELECT v, sum(n) AS n FROM ({numbers}) GROUP BY v))"""
    ).fetchone()
    assert found is not None
    quantile = dict(zip(shares, found, strict=True))
    middle = next(((quantile[a], quantile[b]) for a, b in _RANGES if quantile[a] != quantile[b]), None)
    if middle is None:
        return plain
    low, high = middle
    reach = _FENCE * (high - low)
    inside = f"v BETWEEN {low - reach!r} AND {high + reach!r}"
    usual = _moments(db, f"SELECT v, n FROM ({numbers}) WHERE {inside}")
    if plain.std <= _DOMINATED * usual.std:
        return plain
    count, least, largest = db.execute(
        f"SELECT count(DISTINCT v), min(v), max(v) FROM ({numbers}) WHERE NOT ({inside})"
    ).fetchall()[0]
    values = f"{least:g}" if count == 1 else f"{count:,} values from {least:g} to {largest:g}"
    return Moments(
        usual.mean,
        usual.std,
        max(abs(each - usual.mean) / usual.std for each in (least, largest)),
        f"mean and deviation leave out {values}: with them the deviation would be {plain.std:g} instead of {usual.std:g}; if "
        f"they mean that there is no value, leave them empty and import again",
    )


def _moments(db: duckdb.DuckDBPyConnection, numbers: str) -> Moments:
    """Return mean and deviation, 0 and 0 without values; around the smallest value, so that a large mean costs no digits."""
    row = db.execute(
        f"""WITH numbers AS (
            SELECT v, n, min(v) OVER () AS least
            FROM (SELECT greatest(least(v, {_LARGEST!r}), -{_LARGEST!r}) AS v, n FROM ({numbers}))
        ), centred AS (SELECT v, n, least + sum((v - least) * n) OVER () / sum(n) OVER () AS mean FROM numbers)
        SELECT min(mean), sqrt(sum((v - mean) ** 2 * n) / sum(n)) FROM centred"""
    ).fetchone()
    return Moments(0.0, 0.0) if row is None or row[0] is None else Moments(float(row[0]), float(row[1]))
