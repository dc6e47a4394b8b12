"""The user's own tables, CSV or Parquet, by way of a mapping file."""

from pathlib import Path

from rf_platform.data.locate import Location
from rf_platform.data.log_columns import STATIC, id_field, log_outputs, time_field
from rf_platform.data.mapping import ExtraColumn, IdColumn, ItemsPart, Mapping, TimeColumn, UsersPart, load_mapping
from rf_platform.data.specs import (
    EventTime,
    Field,
    InputFile,
    Kind,
    ParquetFormat,
    SourceSpec,
    TableName,
    TableSpec,
    TextFormat,
    TimeFormat,
)
from rf_platform.data.stage import EVENT_TIME
from rf_platform.data.text_stream import SUFFIXES as COMPRESSED
from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_platform.sql import identifier

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
_PARQUET_SUFFIXES = (".parquet", ".pq")


def custom(path: Path | None, scratch: Path, mapping: Path | None) -> SourceSpec:
    """Find the files that a mapping names, below ``path`` or, without it, beside the mapping file.

    Raises:
        UsageError: no mapping is given.
        ConfigError: the mapping is wrong.
        NotFoundError: a file is not there.
    """
    if mapping is None:
        raise UsageError("custom needs --mapping FILE, a YAML file that says what the columns mean; see docs/data.md")
    wanted = load_mapping(mapping)
    place = Location(path or mapping.absolute().parent, scratch)
    log = wanted.interactions
    position = log.timestamp.format == "position"
    time = EventTime.POSITION if position else EventTime.OBSERVED
    fields = [_id("user", log.user), _id("item", log.item), _time(log.timestamp)]
    if log.event_type.column is not None:
        fields.append(Field(name="event_type", column=log.event_type.column, kind=Kind.STRING, key=True))
    if log.rating is not None:
        fields.append(
            Field(
                name="rating", column=log.rating.column, kind=Kind.FLOAT, minimum=log.rating.min, maximum=log.rating.max
            )
        )
    tables = [
        _table(
            place,
            "interactions",
            wanted,
            (*fields, *(_extra(name, column) for name, column in log.context.items())),
            log_outputs(
                event_type=log.event_type.value, has_rating=log.rating is not None, time=time, extra=tuple(log.context)
            ),
            sorted_by_time=log.sorted,
        )
    ]
    if wanted.items is not None:
        tables.append(_attributes(place, "items", wanted, wanted.items, _id("item", wanted.items.item)))
    if wanted.users is not None:
        tables.append(_attributes(place, "users", wanted, wanted.users, _id("user", wanted.users.user)))
    shown = wanted.items.attributes if wanted.items is not None else {}
    return SourceSpec(
        name=wanted.name,
        feature_repo=None,
        tables=tuple(tables),
        time=time,
        display=tuple(name for name, column in shown.items() if column.display),
    )


def _attributes(
    place: Location, table: TableName, wanted: Mapping, part: ItemsPart | UsersPart, key: Field
) -> TableSpec:
    fields = (key, *([_time(part.timestamp)] if part.timestamp is not None else ()))
    since = STATIC if part.timestamp is None else {EVENT_TIME: EVENT_TIME}
    outputs = {key.name: key.name, **since, **{name: identifier(name) for name in part.attributes}}
    extras = (_extra(name, column) for name, column in part.attributes.items())
    return _table(place, table, wanted, (*fields, *extras), outputs)


def _id(side: str, given: IdColumn) -> Field:
    return id_field(side, given.column, Kind(given.type))


def _time(given: TimeColumn) -> Field:
    return time_field(given.column, TimeFormat(given.format))


def _extra(name: str, given: ExtraColumn) -> Field:
    multi = given.separator is not None and given.type == "auto"
    return Field(
        name=name,
        column=given.column,
        kind=Kind.STRINGS if multi else Kind(given.type),
        separator=given.separator,
        time_format=TimeFormat(given.format or "auto"),
    )


def _table(
    place: Location,
    table: TableName,
    wanted: Mapping,
    fields: tuple[Field, ...],
    outputs: dict[str, str],
    sorted_by_time: bool = False,
) -> TableSpec:
    part = getattr(wanted, table)
    files: list[InputFile] = place.match(part.file)
    if not files:
        raise NotFoundError(f"{table}.file: nothing in {place.path} is called {part.file!r}")
    formats = {_format(table, part, file) for file in files}
    if len(formats) > 1:
        raise ConfigError(f"{table}.file: {part.file!r} matches files of different formats; name them more exactly")
    return TableSpec(
        table=table, files=tuple(files), format=formats.pop(), fields=fields, outputs=outputs, sorted=sorted_by_time
    )


def _format(table: TableName, part: ItemsPart | UsersPart, file: InputFile) -> TextFormat | ParquetFormat:
    suffixes = [s.lower() for s in Path(file.name).suffixes if s.lower() not in COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    written = part.format
    if written is None and suffix in _TEXT_SUFFIXES + _PARQUET_SUFFIXES:
        written = "parquet" if suffix in _PARQUET_SUFFIXES else "csv"
    if written is None:
        raise ConfigError(
            f"{table}.file: the name {file.name!r} does not tell its format; add `format: csv` or `format: parquet`"
        )
    if written == "parquet":
        if part.csv is not None:
            raise ConfigError(f"{table}.csv says how text is written, but {file.name!r} is Parquet")
        return ParquetFormat()
    layout = part.csv
    default = "\t" if suffix == ".tsv" else ","
    if layout is None:
        return TextFormat(delimiter=default)
    delimiter = layout.delimiter or default
    text = TextFormat(
        delimiter=delimiter,
        quote=layout.quote,
        escape=layout.escape,
        encoding=layout.encoding,
        header=layout.header if isinstance(layout.header, tuple) else None if layout.header else "numbers",
        null_values=layout.null_values,
    )
    if text.splits_lines and (text.quote is not None or text.escape is not None):
        raise ConfigError(
            f"{table}.csv: the delimiter {delimiter!r} is more than one byte; set `quote: null` with it, and no escape"
        )
    if delimiter in (text.quote, text.escape) or set(delimiter) & set("\r\n"):
        raise ConfigError(f"{table}.csv: the delimiter {delimiter!r} is also the quote, the escape or a line end")
    return text
