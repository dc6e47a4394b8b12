"""Times in all the forms that files hold them in, to ``TIMESTAMPTZ`` (microseconds, UTC)."""

from rf_platform.data.bad_rows import Reason
from rf_platform.data.raw import RawColumn
from rf_platform.data.specs import Field, TimeFormat
from rf_platform.errors import ConfigError, DataError

NUMERIC_TIME = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
ISO_TIME = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([T ].*)?"
"""Keeps out 'infinity', 'epoch' and years that DuckDB would read as something else."""
_POSITION_START = "946684800000000"  # 2000-01-01T00:00:00Z
_POSITION_STEP = "3600000000"  # one hour
_SCALES = {TimeFormat.SECONDS: 1_000_000, TimeFormat.MS: 1_000, TimeFormat.US: 1}
_MOST_MICROSECONDS = 900_000_000_000_000_000  # beyond this DuckDB's own range is near; far in the future either way
_EXPECTED = {
    TimeFormat.SECONDS: "expected seconds since 1970",
    TimeFormat.MS: "expected milliseconds since 1970",
    TimeFormat.US: "expected microseconds since 1970",
    TimeFormat.ISO: "expected an ISO 8601 time such as 2024-05-31T18:00:00Z",
    TimeFormat.POSITION: "expected a whole number from 0",
}


def time_value(field: Field, column: RawColumn, family: str, base: str, file: str) -> str | None:
    """Return the SQL of a time, or None if the column's type cannot hold one; ``file`` is named in messages.

    Raises:
        ConfigError: the column is a timestamp already, but the mapping says it is a number.
        DataError: the column's numbers are too coarse to keep the order of events.
    """
    written = field.time_format
    if family == "time":
        if written not in (TimeFormat.AUTO, TimeFormat.ISO):
            raise ConfigError(
                f"{file}: column {field.column!r} has the type {column.type}, so its format cannot be {written}; "
                f"leave the format out"
            )
        return base if column.type == "TIMESTAMP WITH TIME ZONE" else f"CAST(CAST({base} AS TIMESTAMP) AS TIMESTAMPTZ)"
    if family not in ("text", "int", "float"):
        return None
    if column.type == "FLOAT":
        raise DataError(
            f"{file}: column {field.column!r} holds times as 32-bit floats, which reorder events; write it as a 64-bit number"
        )
    if written is TimeFormat.ISO:
        if family != "text":
            return None
        return f"CASE WHEN regexp_full_match({base}, '{ISO_TIME}') THEN TRY_CAST({base} AS TIMESTAMPTZ) END"
    whole, number = _numbers(base, family)
    if written is TimeFormat.POSITION:
        even = f"CASE WHEN {number} = floor({number}) THEN CAST({_bounded(number, 100_000_000)} AS BIGINT) END"
        whole = f"coalesce({whole}, {even})"
        return f"make_timestamptz({_POSITION_START} + {_bounded(whole, 100_000_000)} * {_POSITION_STEP})"
    scale = _SCALES[written]
    most = _MOST_MICROSECONDS // scale
    # A double holds the microseconds of any time before the year 2255; whole numbers stay exact beyond it, too.
    rounded = f"CAST(round({_bounded(number, most)} * {scale}) AS BIGINT)"
    return f"make_timestamptz(coalesce({_bounded(whole, most)} * {scale}, {rounded}))"


def _numbers(base: str, family: str) -> tuple[str, str]:
    """Return SQL of a value as whole number and as double, each NULL where it is not one."""
    whole, number = f"TRY_CAST({base} AS BIGINT)", f"TRY_CAST({base} AS DOUBLE)"
    if family == "text":
        whole = f"CASE WHEN regexp_full_match({base}, '[+-]?[0-9]+') THEN {whole} END"
        number = f"CASE WHEN regexp_full_match({base}, '{NUMERIC_TIME}') THEN {number} END"
    elif family == "float":
        whole = "CAST(NULL AS BIGINT)"
    return whole, number


def _bounded(number: str, most: int) -> str:
    """Return SQL that keeps a number within bounds, and NULL as it is (which DuckDB's least and greatest do not)."""
    return f"CASE WHEN {number} < -{most} THEN -{most} WHEN {number} > {most} THEN {most} ELSE {number} END"


def time_checks(field: Field, base: str, value: str, now: str) -> list[tuple[Reason, str, str]]:
    """Return reason, condition and detail of everything that makes a time bad."""
    expected = _EXPECTED.get(field.time_format, "")
    wrong_type = (Reason.WRONG_TYPE, f"{base} IS NOT NULL AND {value} IS NULL", expected)
    if not field.key:  # an attribute may well lie in the future, or before 1970: a date of release, the end of an offer
        outside = f"year({value} AT TIME ZONE 'UTC') NOT BETWEEN 1 AND 9999"
        return [wrong_type, (Reason.OUT_OF_RANGE, outside, "expected a year from 1 to 9999")]
    earliest = (
        (Reason.OUT_OF_RANGE, f"{value} < make_timestamptz({_POSITION_START})", "a position counts from 0")
        if field.time_format is TimeFormat.POSITION
        else (Reason.TOO_EARLY, f"{value} < make_timestamptz(0)", "is the format right?")
    )
    return [
        wrong_type,
        earliest,
        (Reason.FUTURE, f"{value} > {now}", "it lies after the time of this import"),
    ]
