"""Conditions of a policy: written ones as on the command line, and their combinations."""

from typing import Annotated, Any, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from rf_platform.conditions import parse_alternatives
from rf_platform.errors import UsageError

EXAMPLE = "item_attributes__in_stock=true"


class Part(BaseModel):
    """Part of a policy: frozen, and every key of it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)


def _written(text: str) -> str:
    try:
        parse_alternatives(text, "the condition", EXAMPLE)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


def _tag(value: Any) -> str | None:
    if isinstance(value, AnyOf | AllOf | Not):
        return type(value).__name__.removesuffix("Of").lower()
    if isinstance(value, dict) and len(value) == 1 and (key := next(iter(value))) in ("any", "all", "not"):
        return str(key)
    return "text" if isinstance(value, str) else None


class AnyOf(Part):
    """At least one of the conditions holds."""

    any: "tuple[Condition, ...]" = Field(min_length=1)


class AllOf(Part):
    """Every one of the conditions holds."""

    all: "tuple[Condition, ...]" = Field(min_length=1)


class Not(Part):
    """The condition does not hold."""

    negated: "Condition" = Field(alias="not")


Written = Annotated[str, AfterValidator(_written)]
"""A condition as text: ``FEATURE=VALUE,VALUE``, ``FEATURE>=NUMBER``, ``FEATURE present``; with ``or`` and ``not``."""
Condition = Annotated[
    Union[  # noqa: UP007 (the members are annotated)
        Annotated[Written, Tag("text")],
        Annotated[AnyOf, Tag("any")],
        Annotated[AllOf, Tag("all")],
        Annotated[Not, Tag("not")],
    ],
    Discriminator(
        _tag,
        custom_error_type="condition",
        custom_error_message=f"no condition: write a text such as '{EXAMPLE}', or one of `any: [...]`, `all: [...]`, `not: ...`",
    ),
]
"""One condition on the features of an item."""
AnyOf.model_rebuild()
AllOf.model_rebuild()
Not.model_rebuild()
