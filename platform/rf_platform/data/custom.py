"""The user's own tables, CSV or Parquet, by way of a mapping file."""

from pathlib import Path
from typing import Any, Literal

from rf_platform.data.locate import Location
from rf_platform.data.log_columns import RECOMMENDABLE, STATIC, id_field, log_outputs, time_field, time_format
from rf_platform.data.mapping import (
    ExtraColumn,
    IdColumn,
    InteractionsPart,
    ItemsPart,
    Mapping,
    TimeColumn,
    UserColumn,
    UsersPart,
    load_mapping,
)
from rf_platform.data.predicate import named_column
from rf_platform.data.specs import (
    EventTime,
    Field,
    InputFile,
    JsonFormat,
    Kind,
    ParquetFormat,
    SourceSpec,
    TableName,
    TableSpec,
    TextFormat,
)
from rf_platform.data.stage import EVENT_TIME
from rf_platform.data.text_stream import SUFFIXES as COMPRESSED
from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_platform.literals import Writing
from rf_platform.sql import identifier

_SUFFIXES: dict[str, Literal["csv", "json", "parquet"]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
AnyPart = InteractionsPart | ItemsPart | UsersPart


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
    fields = [_user(log.user), _id("item", log.item), _time(log.timestamp, log, wanted)]
    if log.event_type.column is not None:
        fields.append(Field(name="event_type", column=log.event_type.column, kind=Kind.STRING, key=True))
    if log.rating is not None:
        fields.append(
            Field(
                name="rating",
                column=log.rating.column,
                kind=Kind.FLOAT,
                minimum=log.rating.min,
                maximum=log.rating.max,
                units=log.rating.unit,
                writing=_writing(log.rating, log, wanted),
            )
        )
    tables = [
        _table(
            place,
            "interactions",
            log,
            (*fields, *(_extra(name, column, log, wanted) for name, column in log.context.items())),
            log_outputs(
                event_type=log.event_type.value,
                has_rating=log.rating is not None,
                time=time,
                extra=tuple(log.context),
                renamed=log.event_type.rename,
            ),
            sorted_by_time=log.sorted,
        ),
        *(_attributes(place, "items", wanted, n, part, _id("item", part.item)) for n, part in enumerate(wanted.items)),
        *(_attributes(place, "users", wanted, n, part, _id("user", part.user)) for n, part in enumerate(wanted.users)),
    ]
    return SourceSpec(
        name=wanted.name,
        feature_repo=None,
        tables=tuple(tables),
        time=time,
        display=tuple(name for part in wanted.items for name, column in part.attributes.items() if column.display),
        renamed_types=log.event_type.rename,
        event_weights=log.event_type.weights,
        history_only=bool(wanted.items) and wanted.items[0].undescribed == "history",
    )


def item_source(mapping: Path, file: Path, scratch: Path) -> SourceSpec:
    """Return the items of a mapping alone, with another file in the place of the first part's.

    Raises:
        ConfigError: the mapping is wrong, or describes no items.
        NotFoundError: a file is not there.
    """
    wanted = load_mapping(mapping)
    if not wanted.items:
        raise ConfigError(f"{mapping} has no `items`: it does not say what the columns of {file} mean")
    if not file.is_file():
        raise NotFoundError(f"no such file: {file}")
    first = wanted.items[0].model_copy(update={"file": file.name})
    tables = [
        _attributes(Location(file.absolute().parent, scratch), "items", wanted, 0, first, _id("item", first.item))
    ]
    beside = Location(mapping.absolute().parent, scratch)
    for number, part in enumerate(wanted.items[1:], 1):
        tables.append(_attributes(beside, "items", wanted, number, part, _id("item", part.item)))
    return SourceSpec(name=wanted.name, feature_repo=None, tables=tuple(tables))


def _attributes(
    place: Location, table: TableName, wanted: Mapping, number: int, part: ItemsPart | UsersPart, key: Field
) -> TableSpec:
    fields = [key, *([_time(part.timestamp, part, wanted)] if part.timestamp is not None else ())]
    since = STATIC if part.timestamp is None else {EVENT_TIME: EVENT_TIME}
    outputs = {key.name: key.name, **since, **{name: identifier(name) for name in part.attributes}}
    fields += [_extra(name, column, part, wanted) for name, column in part.attributes.items()]
    if isinstance(part, ItemsPart) and part.recommendable is not None:
        column, condition = named_column(part.recommendable)
        fields.append(
            Field(
                name=RECOMMENDABLE,
                column=column,
                kind=Kind.BOOL,
                passes=condition,
                writing=_writing(part, part, wanted),
            )
        )
        outputs[RECOMMENDABLE] = f"coalesce({RECOMMENDABLE}, 0)"
    return _table(place, table, part, tuple(fields), outputs, part=number)


def _id(side: str, given: IdColumn) -> Field:
    return id_field(side, given.column, Kind(given.type))


def _user(given: UserColumn) -> Field:
    return id_field("user", given.column, Kind(given.type), given.fallback, given.prefix)


def _time(given: TimeColumn, part: AnyPart, wanted: Mapping) -> Field:
    return time_field(given.column, given.format, _writing(given, part, wanted))


def _extra(name: str, given: ExtraColumn, part: AnyPart, wanted: Mapping) -> Field:
    multi = given.separator is not None and given.type == "auto"
    form, pattern = time_format(given.format or "auto")
    return Field(
        name=name,
        column=given.column,
        kind=Kind.STRINGS if multi else Kind.FLOAT if given.unit and given.type == "auto" else Kind(given.type),
        time_format=form,
        time_pattern=pattern,
        units=given.unit,
        writing=_writing(given, part, wanted),
    )


def _writing(given: object, part: AnyPart, wanted: Mapping) -> Writing:
    """Return how a column is written: as it says itself, else its table, else the mapping."""
    said: dict[str, Any] = {
        name: getattr(given, name, None) or getattr(part, name) or getattr(wanted, name)
        for name in ("decimal", "timezone")
    }
    return Writing(separator=getattr(given, "separator", None), **said)


def _table(
    place: Location,
    table: TableName,
    given: AnyPart,
    fields: tuple[Field, ...],
    outputs: dict[str, str],
    sorted_by_time: bool = False,
    part: int = 0,
) -> TableSpec:
    files: list[InputFile] = place.match(given.file)
    if not files:
        raise NotFoundError(f"{table}.file: nothing in {place.path} is called {given.file!r}")
    formats = {_format(table, given, file) for file in files}
    if len(formats) > 1:
        raise ConfigError(f"{table}.file: {given.file!r} matches files of different formats; name them more exactly")
    return TableSpec(
        table=table,
        files=tuple(files),
        format=formats.pop(),
        fields=fields,
        outputs=outputs,
        sorted=sorted_by_time,
        part=part,
    )


def _format(table: TableName, part: AnyPart, file: InputFile) -> TextFormat | JsonFormat | ParquetFormat:
    suffix = text_suffix(file.name)
    written = part.format
    written = written or _SUFFIXES.get(suffix)
    if written is None:
        raise ConfigError(
            f"{table}.file: the name {file.name!r} does not tell its format; add `format: csv`, `json` or `parquet`"
        )
    if written == "parquet":
        if part.csv is not None:
            raise ConfigError(f"{table}.csv says how text is written, but {file.name!r} is Parquet")
        return ParquetFormat()
    layout = part.csv
    if written == "json":
        return JsonFormat() if layout is None else JsonFormat(encoding=layout.encoding, null_values=layout.null_values)
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


def text_suffix(name: str) -> str:
    """Return the end of a file's name that says how it is written, such as ``.csv``; what it is packed with does not count."""
    suffixes = [s.lower() for s in Path(name).suffixes if s.lower() not in COMPRESSED]
    return suffixes[-1] if suffixes else ""
