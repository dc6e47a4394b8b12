"""The columns that every interaction log has, whatever the source."""

from collections.abc import Mapping

from rf_platform.data.specs import EventTime, Field, InputFile, Kind, ParquetFormat, TableSpec, TimeFormat
from rf_platform.data.stage import EVENT_TIME, INPUT_ORDER
from rf_platform.literals import PLAIN, Writing
from rf_platform.sql import identifier, literal

LOG_COLUMNS = (
    "user_id",
    "item_id",
    EVENT_TIME,
    "event_type",
    "rating",
    "hour",
    "weekday",
    "input_order",
)
RECOMMENDABLE = "recommendable"
"""Column of the items: 1 where an item may be offered, 0 where it is in the catalog only."""
STATIC = {EVENT_TIME: "make_timestamptz(0)"}
"""Output of an items or users table without times: its rows are valid since 1970."""


def id_field(side: str, column: str, kind: Kind = Kind.AUTO, fallback: str | None = None, prefix: str = "") -> Field:
    """Return the field of a user or item id; ``fallback`` names the column that is taken where there is none."""
    return Field(
        name=f"{side}_id",
        column=column,
        kind=kind,
        key=True,
        id_of="user" if side == "user" else "item",
        fallback=fallback,
        prefix=prefix,
    )


def time_field(column: str, written: str = TimeFormat.AUTO, writing: Writing = PLAIN) -> Field:
    """Return the field of the time of an event, or of the time since when an attribute row is valid."""
    form, pattern = time_format(written)
    return Field(
        name=EVENT_TIME,
        column=column,
        kind=Kind.TIME,
        key=True,
        time_format=form,
        time_pattern=pattern,
        writing=writing,
    )


def time_format(written: str) -> tuple[TimeFormat, str | None]:
    """Return the format that a mapping gives, and its pattern if it is one."""
    return (TimeFormat.PATTERN, written) if "%" in written else (TimeFormat(written), None)


def log_outputs(
    *,
    event_type: str | None,
    has_rating: bool,
    time: EventTime,
    extra: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the outputs of an interaction log.

    Args:
        event_type: the type of all events, or None if a field ``event_type`` holds it.
        has_rating: whether a field ``rating`` is read.
        time: positions are no clock: without observed times, hour and weekday are null.
        extra: further fields to keep as they are.
        renamed: names that types get, by those in the field ``event_type``.
    """
    kind = "event_type" if event_type is None else literal(event_type)
    if renamed:
        names = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in renamed.items())
        kind = f"CASE event_type {names} ELSE event_type END"
    clock = f"{EVENT_TIME} AT TIME ZONE 'UTC'"
    observed = time is EventTime.OBSERVED
    return {
        "user_id": "user_id",
        "item_id": "item_id",
        EVENT_TIME: EVENT_TIME,
        "event_type": kind,
        "rating": "CAST(rating AS FLOAT)" if has_rating else "CAST(NULL AS FLOAT)",
        "hour": f"hour({clock})" if observed else "CAST(NULL AS BIGINT)",
        "weekday": f"isodow({clock}) - 1" if observed else "CAST(NULL AS BIGINT)",
        "input_order": INPUT_ORDER,
        **{name: identifier(name) for name in extra},
    }


def positions_table(file: InputFile, event_type: str) -> TableSpec:
    """Return the interaction log of a Parquet file that has positions in place of times."""
    return TableSpec(
        table="interactions",
        files=(file,),
        format=ParquetFormat(),
        fields=(
            id_field("user", "user_id", Kind.INT),
            id_field("item", "item_id", Kind.INT),
            time_field("position", TimeFormat.POSITION),
        ),
        outputs=log_outputs(event_type=event_type, has_rating=False, time=EventTime.POSITION),
    )
