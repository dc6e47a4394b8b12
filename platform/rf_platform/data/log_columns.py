"""The columns that every interaction log has, whatever the source."""

from rf_platform.data.specs import EventTime, Field, InputFile, Kind, ParquetFormat, TableSpec, TimeFormat
from rf_platform.data.stage import EVENT_TIME, INPUT_ORDER
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
STATIC = {EVENT_TIME: "make_timestamptz(0)"}
"""Output of an items or users table without times: its rows are valid since 1970."""


def id_field(side: str, column: str, kind: Kind = Kind.AUTO) -> Field:
    """Return the field of a user or item id."""
    return Field(name=f"{side}_id", column=column, kind=kind, key=True, id_of="user" if side == "user" else "item")


def time_field(column: str, written: TimeFormat = TimeFormat.AUTO) -> Field:
    """Return the field of the time of an event, or of the time since when an attribute row is valid."""
    return Field(name=EVENT_TIME, column=column, kind=Kind.TIME, key=True, time_format=written)


def log_outputs(
    *, event_type: str | None, has_rating: bool, time: EventTime, extra: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the outputs of an interaction log.

    Args:
        event_type: the type of all events, or None if a field ``event_type`` holds it.
        has_rating: whether a field ``rating`` is read.
        time: positions are no clock: without observed times, hour and weekday are null.
        extra: further fields to keep as they are.
    """
    clock = f"{EVENT_TIME} AT TIME ZONE 'UTC'"
    observed = time is EventTime.OBSERVED
    return {
        "user_id": "user_id",
        "item_id": "item_id",
        EVENT_TIME: EVENT_TIME,
        "event_type": "event_type" if event_type is None else literal(event_type),
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
