"""The mapping file: which columns of the user's own tables mean what. Every key is checked; unknown ones are refused by name."""

import re
from collections.abc import Hashable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from rf_platform.data.log_columns import LOG_COLUMNS
from rf_platform.errors import ConfigError, NotFoundError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_LISTS = ("strings", "ints", "floats")
_RESERVED = {
    "interactions": LOG_COLUMNS,
    "items": ("user_id", "item_id", "event_timestamp"),
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


_Column = Annotated[str, BeforeValidator(_number)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IdColumn(_Part):
    """Column with the id of a user or item; short form: the column's name."""

    column: _Column
    type: Literal["auto", "int", "string"] = "auto"


class TimeColumn(_Part):
    """Column with the time, and its format; short form: the column's name."""

    column: _Column
    format: Literal["auto", "seconds", "ms", "us", "ns", "iso", "position"] = "auto"

    @field_validator("format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class EventType(_Part):
    """The kind of event: a column (short form: its name), or one ``value`` for all events."""

    column: _Column | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "EventType":
        if (self.column is None) == (self.value is None):
            raise ValueError("give either 'column' or 'value'")
        return self


class RatingColumn(_Part):
    """Column with the rating, and the range it must lie in; short form: the column's name."""

    column: _Column
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
    format: Literal["auto", "seconds", "ms", "us", "ns", "iso"] | None = None
    separator: str | None = Field(default=None, min_length=1)
    display: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "ExtraColumn":
        if self.separator is not None and self.type not in ("auto", *_LISTS):
            raise ValueError(f"'separator' is for multi-valued types ({', '.join(_LISTS)}), not for {self.type!r}")
        if self.format is not None and self.type != "time":
            raise ValueError("'format' is for columns of type 'time'")
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
    format: Literal["csv", "parquet"] | None = None
    csv: TextLayout | None = None


_Id = Annotated[IdColumn, BeforeValidator(_short)]
_Time = Annotated[TimeColumn, BeforeValidator(_short)]
_Extras = Annotated[dict[str, Annotated[ExtraColumn, BeforeValidator(_short)]], BeforeValidator(_short_columns)]


class InteractionsPart(_TablePart):
    """The interaction log: user, item, time and type of each event."""

    user: _Id
    item: _Id
    timestamp: _Time
    event_type: Annotated[EventType, BeforeValidator(_short)] = EventType(value="interaction")
    rating: Annotated[RatingColumn, BeforeValidator(_short)] | None = None
    context: _Extras = Field(default_factory=dict)
    sorted: bool = False


class ItemsPart(_TablePart):
    """Item attributes."""

    item: _Id
    timestamp: _Time | None = None
    attributes: _Extras = Field(default_factory=dict)


class UsersPart(_TablePart):
    """User attributes."""

    user: _Id
    timestamp: _Time | None = None
    attributes: _Extras = Field(default_factory=dict)


class Mapping(_Part):
    """A whole mapping file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    interactions: InteractionsPart
    items: ItemsPart | None = None
    users: UsersPart | None = None

    @model_validator(mode="after")
    def _names(self) -> "Mapping":
        for table in ("items", "users"):
            part = getattr(self, table)
            if part is not None and part.timestamp is not None and part.timestamp.format == "position":
                raise ValueError(f"{table}.timestamp: 'position' is an order of events; attributes need a time")
        parts = {"interactions": self.interactions.context}
        parts |= {t: getattr(self, t).attributes for t in ("items", "users") if getattr(self, t) is not None}
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
                        f"{table}: {name!r} is taken (names that every table has, and letter case is no difference)"
                    )
                seen.add(name.lower())
        return self


_MODELS: dict[str, type[BaseModel]] = {
    "interactions": InteractionsPart,
    "items": ItemsPart,
    "users": UsersPart,
    "csv": TextLayout,
    "user": IdColumn,
    "item": IdColumn,
    "timestamp": TimeColumn,
    "event_type": EventType,
    "rating": RatingColumn,
}


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no YAML, or a key or value is wrong; the message names all of them.
    """
    if not path.is_file():
        raise NotFoundError(f"no mapping file {path}; give --mapping the path of one")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be a mapping with the keys {', '.join(Mapping.model_fields)}; correct it")
    try:
        return Mapping.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(_explain(e) for e in error.errors())}") from error


def _explain(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        parents, key = error["loc"][:-1], str(error["loc"][-1])
        extra = len(parents) > 1 and parents[-2] in ("attributes", "context")
        model = ExtraColumn if extra else _MODELS.get(str(parents[-1]), Mapping) if parents else Mapping
        near = get_close_matches(key, model.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(model.model_fields)}"
        return f"unknown key {place!r}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    given = f" (given: {error['input']!r})" if isinstance(error["input"], str | int | float) else ""
    return f"{place}: {message}{given}" if place else message
