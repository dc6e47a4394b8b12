"""Ranges of the values in a configuration, as types of its fields, and their check."""

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from rf_platform.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# The description of a range is what the message about another value says after "must".
Count = Annotated[int, Field(ge=1, description="be at least 1")]
Whole = Annotated[int, Field(ge=0, description="not be negative")]
Weight = Annotated[float, Field(ge=0, description="not be negative")]
Positive = Annotated[float, Field(gt=0, description="be positive")]
Share = Annotated[float, Field(ge=0, lt=1, description="be in [0, 1)")]


def check_fields(config: "DataclassInstance", prefix: str) -> None:
    """Check that every field of a configuration has a value of its type; to be called in ``__post_init__``.

    Args:
        config: a dataclass; ranges are part of the types of its fields.
        prefix: what the user writes before a field's name: a section, such as ``model.``, or ``--`` of an option.

    Raises:
        ConfigError: a value of a section is of another type, or out of its range.
        UsageError: the same of an option.
    """
    for name, (adapter, must) in _adapters(type(config)).items():
        value = getattr(config, name)
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]
            must = must or f"be {wrong.get('ctx', {}).get('expected', wrong['msg'].removeprefix('Input should be '))}"
            if prefix == "--":
                raise UsageError(f"--{name.replace('_', '-')}={value!r} must {must}") from None
            path = ".".join([name, *map(str, wrong["loc"])]) if isinstance(value, dict) else name
            raise ConfigError(f"{prefix}{path}={wrong['input']!r} must {must}") from None


@cache
def _adapters(kind: "type[DataclassInstance]") -> dict[str, tuple[TypeAdapter[Any], str | None]]:
    """Return what checks each field, and the words for what it allows."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: (TypeAdapter(hints[f.name]), _words(hints[f.name])) for f in fields(kind)}


def _words(hint: Any) -> str | None:
    return next((each.description for each in getattr(hint, "__metadata__", ())), None)
