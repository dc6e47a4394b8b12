"""The mapping file: which columns of the user's own tables mean what. Every key is checked; unknown ones are refused by name."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from rf_platform.data.log_columns import LOG_COLUMNS, RECOMMENDABLE
from rf_platform.data.predicate import is_condition, parse_predicate
from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_platform.features.event_weights import EventWeights
from rf_platform.literals import Decimal, zones
from rf_platform.yaml_file import read_yaml

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_LISTS = ("strings", "ints", "floats")
_RESERVED = {
    "interactions": LOG_COLUMNS,
    "items": ("user_id", "item_id", "event_timestamp", RECOMMENDABLE),
    "users": ("user_id", "item_id", "event_timestamp"),
}


def _short(value: Any) -> Any:
    value = _number(value)
    return {"column": value} if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """Take the number of a column for its name: that is what columns of a file without a header line are called."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short_columns(value: Any) -> Any:
    return (
        {name: name for name in value} if isinstance(value, list) and all(isinstance(n, str) for n in value) else value
    )


def _unpadded(value: str) -> str:
    if value != value.strip():
        raise ValueError("blanks around a type never match: they are taken off when a file is read")
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _zone(value: str) -> str:
    if value not in zones():
        near = get_close_matches(value, zones(), n=1)
        raise ValueError(
            f"no such time zone; {f'did you mean {near[0]!r}?' if near else 'write one like Europe/Berlin'}"
        )
    return value


def _time_format(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "%" not in value:
        if value.lower() not in _FORMATS:
            raise ValueError(
                f"Input should be {', '.join(map(repr, _FORMATS[:-1]))} or {_FORMATS[-1]!r}, or a pattern such as "
                "'%d.%m.%Y %H:%M'"
            )
        return value.lower()
    import duckdb

    try:
        duckdb.execute("SELECT try_strptime('', ?)", [value])
    except duckdb.Error as error:
        raise ValueError(f"no pattern of a time: {str(error).splitlines()[0]}") from error
    return value


_FORMATS = ("auto", "seconds", "ms", "us", "ns", "iso", "excel", "position")
_Column = Annotated[str, BeforeValidator(_number)]
_Type = Annotated[str, Field(min_length=1), AfterValidator(_unpadded)]
_Zone = Annotated[str, AfterValidator(_zone)]
_Units = Annotated[tuple[Annotated[str, Field(min_length=1), AfterValidator(str.strip)], ...], BeforeValidator(_listed)]
_Format = Annotated[str, BeforeValidator(_time_format)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IdColumn(_Part):
    """Column with the id of a user or item; short form: the column's name."""

    column: _Column
    type: Literal["auto", "int", "string"] = "auto"


class UserColumn(IdColumn):
    """Column with the id of a user, and the column that is taken where it is empty, such as that of a session's id."""

    fallback: _Column | None = None
    prefix: str = Field(default="", max_length=20)
    """Stands before an id from ``fallback``: the user 17 and the session 17 are two."""

    @model_validator(mode="after")
    def _both(self) -> "UserColumn":
        if self.prefix and self.fallback is None:
            raise ValueError("'prefix' belongs to ids from a 'fallback' column")
        if self.prefix and self.type == "int":
            raise ValueError("ids with a 'prefix' are texts; leave `type: int` out")
        return self


class TimeColumn(_Part):
    """Column with the time, and its format; short form: the column's name."""

    column: _Column
    format: _Format = "auto"
    timezone: _Zone | None = None
    """Of times without a zone; default: that of the table."""


class EventType(_Part):
    """The kind of event: a column (short form: its name), or one ``value`` for all events."""

    column: _Column | None = None
    value: str | None = None
    rename: dict[_Type, _Type] = Field(default_factory=dict)
    """Names that types get, by those in the file; types that get the same name become one."""
    weights: dict[_Type, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | str | None = None
    """Weight of a type, by its name after ``rename``, as a target of training; or the name of a column that has it."""

    @model_validator(mode="after")
    def _one(self) -> "EventType":
        if (self.column is None) == (self.value is None):
            raise ValueError("give either 'column' or 'value'")
        if self.rename and self.value is not None:
            raise ValueError("'rename' is for types from a column; write the name as 'value'")
        for old, new in self.rename.items():
            if self.rename.get(new, new) != new:
                raise ValueError(
                    f"'rename' makes {old!r} {new!r}, and {new!r} {self.rename[new]!r}; write the last name for both"
                )
        for name in self.weights if isinstance(self.weights, dict) else ():
            if name in self.rename:
                raise ValueError(
                    f"'weights' names the type {name!r}, which is renamed; write its new name {self.rename[name]!r}"
                )
        if self.weights is not None:
            try:
                EventWeights.of(self.weights, "'weights'")
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return self


class RatingColumn(_Part):
    """Column with the rating, and the range it must lie in; short form: the column's name."""

    column: _Column
    decimal: Decimal | None = None
    unit: _Units = ()
    """Text before or behind the number that is taken off, such as ``stars``, or several."""
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "RatingColumn":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class ExtraColumn(_Part):
    """An attribute, or a column of the interaction log that is kept; short form: the column's name."""

    column: _Column
    type: Literal["auto", "string", "int", "float", "bool", "time", "strings", "ints", "floats"] = "auto"
    format: _Format | None = None
    timezone: _Zone | None = None
    decimal: Decimal | None = None
    separator: str | None = Field(default=None, min_length=1)
    unit: _Units = ()
    """Text before or behind a number that is taken off, such as ``EUR``, or several; a value with another one is refused."""
    display: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "ExtraColumn":
        if self.separator is not None and self.type not in ("auto", *_LISTS):
            raise ValueError(f"'separator' is for multi-valued types ({', '.join(_LISTS)}), not for {self.type!r}")
        if self.unit and self.type not in ("auto", "int", "float"):
            raise ValueError(f"'unit' is for numbers (int, float), not for {self.type!r}")
        if self.unit and self.separator is not None:
            raise ValueError("'unit' is for single numbers, and 'separator' for several values")
        for name in ("format", "timezone"):
            if getattr(self, name) is not None and self.type != "time":
                raise ValueError(f"'{name}' is for columns of type 'time'")
        if self.format == "position":
            raise ValueError("'position' is an order of events; attributes need a time")
        return self


class TextLayout(_Part):
    """Layout of a text file: delimiter, quotes, encoding, header."""

    delimiter: str | None = Field(default=None, min_length=1)
    quote: str | None = Field(default='"', pattern=r"^[!-~]$")
    escape: str | None = Field(default=None, pattern=r"^[!-~]$")
    encoding: str = "utf-8"
    header: bool | tuple[_Column, ...] = True
    null_values: tuple[str, ...] = ()

    @field_validator("header")
    @classmethod
    def _names(cls, header: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        if isinstance(header, tuple) and (not header or len(set(header)) < len(header)):
            raise ValueError("give every column of the file a name, and no name twice")
        return header


class _TablePart(_Part):
    file: str = Field(min_length=1)
    format: Literal["csv", "json", "parquet"] | None = None
    csv: TextLayout | None = None
    timezone: _Zone | None = None
    """Of times without a zone; default: that of the mapping."""
    decimal: Decimal | None = None


_Id = Annotated[IdColumn, BeforeValidator(_short)]
_User = Annotated[UserColumn, BeforeValidator(_short)]
_Time = Annotated[TimeColumn, BeforeValidator(_short)]
_Extras = Annotated[dict[str, Annotated[ExtraColumn, BeforeValidator(_short)]], BeforeValidator(_short_columns)]


class InteractionsPart(_TablePart):
    """The interaction log: user, item, time and type of each event."""

    user: _User
    item: _Id
    timestamp: _Time
    event_type: Annotated[EventType, BeforeValidator(_short)] = EventType(value="interaction")
    rating: Annotated[RatingColumn, BeforeValidator(_short)] | None = None
    context: _Extras = Field(default_factory=dict)
    sorted: bool = False

    @model_validator(mode="after")
    def _weighed(self) -> "InteractionsPart":
        weights = self.event_type.weights
        known = [*(("rating",) if self.rating is not None else ()), *self.context]
        if isinstance(weights, str) and weights not in known:
            near = get_close_matches(weights, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known columns: {', '.join(known) or 'none'}"
            raise ValueError(
                f"event_type.weights: {weights!r} is no column that events keep ('rating' and those of 'context'); {hint}"
            )
        return self


class ItemsPart(_TablePart):
    """Item attributes; of several parts the first says which items there are."""

    item: _Id
    timestamp: _Time | None = None
    attributes: _Extras = Field(default_factory=dict)
    recommendable: str | None = None
    """Column with truth values, or a condition on one such as ``stock > 0``: other items are in the catalog and not offered."""
    undescribed: Literal["history", "offer"] = "history"
    """Items of the log that have no row here: in histories only, or offered as well."""

    @field_validator("recommendable")
    @classmethod
    def _condition(cls, value: str | None) -> str | None:
        if value is not None and is_condition(value):
            try:
                parse_predicate(value)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return value


class UsersPart(_TablePart):
    """User attributes; of several parts the first says which users there are."""

    user: _Id
    timestamp: _Time | None = None
    attributes: _Extras = Field(default_factory=dict)


class Mapping(_Part):
    """A whole mapping file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    timezone: _Zone = "UTC"
    decimal: Decimal = "."
    interactions: InteractionsPart
    items: Annotated[tuple[ItemsPart, ...], BeforeValidator(_listed)] = ()
    users: Annotated[tuple[UsersPart, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="after")
    def _names(self) -> "Mapping":
        described: list[tuple[str, ItemsPart | UsersPart]] = [("items", p) for p in self.items]
        for table, part in (*described, *(("users", p) for p in self.users)):
            if part.timestamp is not None and part.timestamp.format == "position":
                raise ValueError(f"{table}.timestamp: 'position' is an order of events; attributes need a time")
        if sum(part.recommendable is not None for part in self.items) > 1:
            raise ValueError("items: several parts say 'recommendable'; say it once")
        if any(part.undescribed != "history" for part in self.items[1:]):
            raise ValueError("items: 'undescribed' belongs to the first part, which says which items there are")
        parts: dict[str, list[str]] = {"interactions": list(self.interactions.context)}
        parts |= {
            "items": [n for p in self.items for n in p.attributes],
            "users": [n for p in self.users for n in p.attributes],
        }
        for table, columns in parts.items():
            seen = {name.lower() for name in _RESERVED[table]}
            for name in columns:
                if not _NAME.fullmatch(name):
                    raise ValueError(
                        f"{table}: {name!r} cannot name a feature: use letters, digits and single underscores, a letter first "
                        f"(write `my_name: {{column: {name!r}}}`)"
                    )
                if name.lower() in seen:
                    raise ValueError(
                        f"{table}: {name!r} is taken (by every table or another part of this one; letter case is no difference)"
                    )
                seen.add(name.lower())
        return self


_MODELS: dict[str, type[BaseModel]] = {
    "interactions": InteractionsPart,
    "items": ItemsPart,
    "users": UsersPart,
    "csv": TextLayout,
    "user": UserColumn,
    "item": IdColumn,
    "timestamp": TimeColumn,
    "event_type": EventType,
    "rating": RatingColumn,
}


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no YAML, or a key or value is wrong; the message names all of them.
    """
    if not path.is_file():
        raise NotFoundError(f"no mapping file {path}; give --mapping the path of one")
    data = read_yaml(path.read_bytes(), str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be a mapping with the keys {', '.join(Mapping.model_fields)}; correct it")
    try:
        return Mapping.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(_explain(e, data) for e in error.errors())}") from error


def _explain(error: Any, data: dict[str, Any]) -> str:
    loc = tuple(p for i, p in enumerate(error["loc"]) if i != 1 or isinstance(data.get(str(error["loc"][0])), list))
    error = {**error, "loc": loc} if loc and loc[0] in ("items", "users") else error
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        parents, key = error["loc"][:-1], str(error["loc"][-1])
        extra = len(parents) > 1 and parents[-2] in ("attributes", "context")
        named = [str(part) for part in parents if not isinstance(part, int)]
        model = ExtraColumn if extra else _MODELS.get(named[-1], Mapping) if named else Mapping
        near = get_close_matches(key, model.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(model.model_fields)}"
        return f"unknown key {place!r}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    given = f" (given: {error['input']!r})" if isinstance(error["input"], str | int | float) else ""
    return f"{place}: {message}{given}" if place else message
