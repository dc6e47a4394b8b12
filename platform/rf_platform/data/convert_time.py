"""Times in all the forms that files hold them in, to ``TIMESTAMPTZ`` (microseconds, UTC)."""

from rf_platform.data.bad_rows import Reason
from rf_platform.data.raw import RawColumn
from rf_platform.data.specs import Field, TimeFormat
from rf_platform.errors import ConfigError, DataError
from rf_platform.literals import NUMBER, zones
from rf_platform.sql import literal

ISO_TIME = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"
"""Form of an ISO 8601 time; keeps out 'infinity', 'epoch' and years that DuckDB would read as something else."""
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
_WALL = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[Tt ]" + _CLOCK
_WALL_OR_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ]" + _CLOCK + ")?"
_USUAL = "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-5][0-9]([.][0-9]+)?Z?)?"
"""Nearly all times of most files; DuckDB's cast to TIMESTAMP passes over the Z."""
_IN_UTC = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ]" + _CLOCK + " ?[Zz]?)?"
_OFFSET = r" ?([+-])(0[0-9]|1[0-8]):?([0-5][0-9])?:?([0-5][0-9])?"
_NAME = r"[A-Za-z][A-Za-z0-9_+/-]*"
_WITH_OFFSET = rf"{_WALL}{_OFFSET}(\[{_NAME}\])?"
_WITH_NAME = rf"{_WALL}( ?[Zz]?\[{_NAME}\]| {_NAME})"
_SET_BACK = ("2 hours", "1 hour", "30 minutes")
"""By how much clocks are set back: an hour, but in Antarctica/Troll and Australia/Lord_Howe."""
_POSITION_START = "946684800000000"  # 2000-01-01T00:00:00Z
_POSITION_STEP = "3600000000"  # one hour
_SCALES = {TimeFormat.SECONDS: 1_000_000, TimeFormat.MS: 1_000, TimeFormat.US: 1}
SMALLEST = {TimeFormat.MS: 10**11, TimeFormat.US: 10**14, TimeFormat.NS: 10**17}
"""Numbers from which on a time is taken for one in this unit: the year 1973."""
_SERIAL_DAYS = 2_958_465  # 9999-12-31, where spreadsheets end
SERIAL = (25_569, 73_050)
"""Numbers that days of spreadsheets are likely to be: 1970 to 2099."""
_MOST_MICROSECONDS = 900_000_000_000_000_000  # beyond this DuckDB's own range is near; far in the future either way
_UNITS = {
    TimeFormat.SECONDS: "seconds",
    TimeFormat.MS: "milliseconds",
    TimeFormat.US: "microseconds",
    TimeFormat.NS: "nanoseconds",
}
_EXPECTED = {
    TimeFormat.SECONDS: "expected seconds since 1970",
    TimeFormat.MS: "expected milliseconds since 1970",
    TimeFormat.US: "expected microseconds since 1970",
    TimeFormat.NS: "expected nanoseconds since 1970",
    TimeFormat.ISO: "expected an ISO 8601 time such as 2024-05-31T18:00:00Z; a zone is an offset or a name like Europe/Berlin, "
    "whose clocks did not skip it; other forms need a pattern, such as `format: '%d.%m.%Y %H:%M'`",
    TimeFormat.POSITION: "expected a whole number from 0",
    TimeFormat.EXCEL: "expected days as spreadsheets count them, such as 45292.5 for noon of 2024-01-01",
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
        if column.type == "TIMESTAMP WITH TIME ZONE":
            return base
        return local_sql(f"CAST({base} AS TIMESTAMP)", field.writing.timezone)
    if family not in ("text", "int", "float"):
        return None
    if column.type == "FLOAT":
        raise DataError(
            f"{file}: column {field.column!r} holds times as 32-bit floats, which reorder events; write it as a 64-bit number"
        )
    if written is TimeFormat.ISO:
        if family != "text":
            return None
        return iso_sql(base, field.writing.timezone)
    if written is TimeFormat.PATTERN:
        if family not in ("text", "int"):
            return None
        assert field.time_pattern is not None
        moment = f"TRY_STRPTIME(CAST({base} AS VARCHAR), {literal(field.time_pattern)})"
        zoned = "%z" in field.time_pattern or "%Z" in field.time_pattern
        return moment if zoned else local_sql(moment, field.writing.timezone)
    if written is TimeFormat.EXCEL:
        text = base if family != "text" or field.writing.decimal == "." else f"replace({base}, ',', '.')"
        days = _bounded(_numbers(text, family)[1], _SERIAL_DAYS)
        # The fraction of a day is a rounded one: half a millisecond is none.
        wall = f"TIMESTAMP '1899-12-30' + to_milliseconds(CAST(round({days} * 86400000) AS BIGINT))"
        return local_sql(f"({wall})", field.writing.timezone)
    whole, number = _numbers(base, family)
    if written is TimeFormat.POSITION:
        even = f"CASE WHEN {number} = floor({number}) THEN CAST({_bounded(number, 100_000_000)} AS BIGINT) END"
        whole = f"coalesce({whole}, {even})"
        return f"make_timestamptz({_POSITION_START} + {_bounded(whole, 100_000_000)} * {_POSITION_STEP})"
    if written is TimeFormat.NS:
        most = 10 * _MOST_MICROSECONDS
        rounded = f"CAST(round({_bounded(number, most)} / 1000) AS BIGINT)"
        return f"make_timestamptz(coalesce({_bounded(whole, most)} // 1000, {rounded}))"
    scale = _SCALES[written]
    most = _MOST_MICROSECONDS // scale
    # A double holds the microseconds of any time before the year 2255; whole numbers stay exact beyond it, too.
    rounded = f"CAST(round({_bounded(number, most)} * {scale}) AS BIGINT)"
    return f"make_timestamptz(coalesce({_bounded(whole, most)} * {scale}, {rounded}))"


def iso_sql(text: str, timezone: str = "UTC") -> str:
    """Return the SQL of an ISO 8601 time, with or without an offset or a zone; without one it is of ``timezone``.

    Never by DuckDB's cast to TIMESTAMPTZ: after a text with a zone's name, that takes texts without one for times of that zone.
    Of two moments with the same local time, when clocks are set back, the first one is meant (as RFC 5545 has it).
    """
    wall = _wall(f"regexp_extract({text}, '^{_WALL}')")
    part = [
        f"TRY_CAST(nullif(regexp_extract({text}, '{_OFFSET}(\\[{_NAME}\\])?$', {n}), '') AS BIGINT)" for n in (2, 3, 4)
    ]
    seconds = f"{part[0]} * 3600 + coalesce({part[1]}, 0) * 60 + coalesce({part[2]}, 0)"
    sign = f"CASE WHEN regexp_extract({text}, '{_OFFSET}(\\[{_NAME}\\])?$', 1) = '-' THEN 1 ELSE -1 END"
    zone = f"regexp_extract({text}, '({_NAME})\\]?$', 1)"
    local = ""
    if timezone != "UTC":
        local = f"WHEN regexp_full_match({text}, '{_WALL_OR_DATE}') THEN {local_sql(_wall(text), timezone)}"
    return f"""CASE {local}
        WHEN regexp_full_match({text}, '{_USUAL}') THEN make_timestamptz(epoch_us(TRY_CAST({text} AS TIMESTAMP)))
        WHEN regexp_full_match({text}, '{_IN_UTC}') THEN CAST({_wall(f"rtrim({text}, 'Zz ')")} AS TIMESTAMPTZ)
        WHEN regexp_full_match({text}, '{_WITH_OFFSET}') THEN CAST({wall} AS TIMESTAMPTZ) + to_seconds({sign} * ({seconds}))
        WHEN regexp_full_match({text}, '{_WITH_NAME}') AND {zone} IN ({", ".join(map(literal, sorted(zones())))}) THEN
            {_first_moment(wall, zone)}
        END"""


def local_sql(wall: str, timezone: str) -> str:
    """Return the SQL of the moment at which clocks of a zone show a time: NULL if they skip it, the first of two."""
    return f"CAST({wall} AS TIMESTAMPTZ)" if timezone == "UTC" else _first_moment(wall, literal(timezone))


def _first_moment(wall: str, zone: str) -> str:
    there = f"timezone({zone}, {wall})"
    moments = ", ".join([*(f"{there} - INTERVAL '{step}'" for step in _SET_BACK), there])
    return f"list_filter([{moments}], lambda moment: timezone({zone}, moment) = {wall})[1]"


def _wall(text: str) -> str:
    """Return the SQL of a time without a zone, TIMESTAMP; a leap second is the next one, as for every system clock."""
    plain = f"upper(replace({text}, ',', '.'))"
    minute = f"TRY_CAST(regexp_replace({plain}, ':60([.][0-9]+)?$', ':59') AS TIMESTAMP)"
    leap = f"CASE WHEN regexp_matches({plain}, ':59:60([.][0-9]+)?$') THEN {minute} + INTERVAL 1 SECOND END"
    return f"coalesce(TRY_CAST({plain} AS TIMESTAMP), {leap})"


def _numbers(base: str, family: str) -> tuple[str, str]:
    """Return SQL of a value as whole number and as double, each NULL where it is not one."""
    whole, number = f"TRY_CAST({base} AS BIGINT)", f"TRY_CAST({base} AS DOUBLE)"
    if family == "text":
        whole = f"CASE WHEN regexp_full_match({base}, '[+-]?[0-9]+') THEN {whole} END"
        number = f"CASE WHEN regexp_full_match({base}, '{NUMBER}') THEN {number} END"
    elif family == "float":
        whole = "CAST(NULL AS BIGINT)"
    return whole, number


def _bounded(number: str, most: int) -> str:
    """Return SQL that keeps a number within bounds, and NULL as it is (which DuckDB's least and greatest do not)."""
    return f"CASE WHEN {number} < -{most} THEN -{most} WHEN {number} > {most} THEN {most} ELSE {number} END"


def _finer_unit(field: Field, base: str, value: str, now: str) -> list[tuple[Reason, str, str]]:
    """Name a number that is a time of the future in the field's unit, and a plausible one in a finer unit."""
    units = (TimeFormat.SECONDS, *SMALLEST)
    if field.time_format not in units:
        return []
    found = []
    for unit in reversed(units[units.index(field.time_format) + 1 :]):
        said = f"{_UNITS[unit]} where {_UNITS[field.time_format]} are due, it seems"
        large = f"{value} > {now} AND TRY_CAST({base} AS DOUBLE) >= {SMALLEST[unit]}"
        found.append((Reason.FUTURE, large, said))
    return found


def time_checks(field: Field, base: str, value: str, now: str) -> list[tuple[Reason, str, str]]:
    """Return reason, condition and detail of everything that makes a time bad."""
    expected = _EXPECTED.get(field.time_format, "")
    if field.time_format is TimeFormat.PATTERN:
        expected = f"expected a time written as {field.time_pattern}"
    if field.writing.timezone != "UTC":
        expected += f", which the clocks of {field.writing.timezone} did not skip"
    wrong_type = [(Reason.WRONG_TYPE, f"{base} IS NOT NULL AND {value} IS NULL", expected)]
    if field.time_found and field.time_format in SMALLEST:  # a zero is one in every unit
        small = f"abs(TRY_CAST({base} AS DOUBLE)) BETWEEN 1 AND {SMALLEST[field.time_format] - 1}"
        said = f"{expected}, as most rows of the file have; name the format if these are right"
        wrong_type.append((Reason.OUT_OF_RANGE, small, said))
    if not field.key:  # an attribute may well lie in the future, or before 1970: a date of release, the end of an offer
        outside = f"year({value} AT TIME ZONE 'UTC') NOT BETWEEN 1 AND 9999"
        return [*wrong_type, (Reason.OUT_OF_RANGE, outside, "expected a year from 1 to 9999")]
    earliest = (
        (Reason.OUT_OF_RANGE, f"{value} < make_timestamptz({_POSITION_START})", "a position counts from 0")
        if field.time_format is TimeFormat.POSITION
        else (Reason.TOO_EARLY, f"{value} < make_timestamptz(0)", "is the format right?")
    )
    return [
        *wrong_type,
        earliest,
        *_finer_unit(field, base, value, now),
        (Reason.FUTURE, f"{value} > {now}", "it lies after the time of this import"),
    ]
