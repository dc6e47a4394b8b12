"""Weights of events: how much a training target counts, by the type of its event or by a number that the log has of it.

They are declared beside the :mod:`~rf_platform.features.meanings` of events, in the tag ``weights`` of the view that keeps the
history, which `rf data init-repo` writes from the mapping of an import.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import yaml

from rf_platform.errors import ConfigError
from rf_platform.features.meanings import EVENT_TYPE, MADE

if TYPE_CHECKING:
    from rf_platform.features.spec import FeatureSpec, FieldSpec

TAG = "weights"
_FORM = "write the types, as in {purchase: 5, cart: 2, view: 1}, or the name of a column with numbers, such as rating"


@dataclass(frozen=True, kw_only=True)
class EventWeights:
    """Weights by type or by a column; one of the two is set."""

    types: tuple[tuple[str, float], ...] = ()
    """Types with their weights, in the order of the names; all other types weigh 1."""
    column: str | None = None
    """Column of the interaction log with the weight itself, 0 or more."""

    @classmethod
    def of(cls, given: Mapping[str, float] | str, where: str) -> "EventWeights":
        """Check weights by type, or the name of a column.

        Raises:
            ConfigError: a type or a weight is none; the message begins with ``where``.
        """
        if isinstance(given, str):
            if not given or given == EVENT_TYPE or given in MADE:
                raise ConfigError(f"{where}: {given!r} is no number that an event has; {_FORM}")
            return cls(column=given)
        if not given:
            raise ConfigError(f"{where}: no type has a weight; {_FORM}")
        return cls(
            types=tuple(sorted((_type(name, where), _weight(name, value, where)) for name, value in given.items()))
        )

    @property
    def plain(self) -> dict[str, float] | str:
        """The weights as they are declared: a dictionary, or a column's name."""
        return dict(self.types) if self.column is None else self.column

    def __str__(self) -> str:
        """Return the weights as the tag is written."""
        if self.column is not None:
            return self.column
        numbers = {name: int(value) if value.is_integer() else value for name, value in self.types}
        text: str = yaml.safe_dump(
            numbers, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True
        )
        return text.strip()


def parse_weights(text: str, where: str) -> EventWeights:
    """Read the tag of a view.

    Args:
        text: value of the tag.
        where: what has the tag, for messages.

    Raises:
        ConfigError: it says no weights.
    """
    said = f"{where} has the tag {TAG}={text.strip()[:100]!r}"
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{said} that is not valid YAML ({' '.join(str(error).split())}); {_FORM}") from error
    if not isinstance(written, dict | str):
        raise ConfigError(f"{said}; {_FORM}")
    return EventWeights.of(written, said)


def weighing_field(spec: "FeatureSpec", weights: EventWeights) -> "FieldSpec":
    """Return the context feature by which events are weighed.

    Raises:
        ConfigError: the history keeps no event types, or no numbers of that column.
    """
    kind = "categorical" if weights.column is None else "numeric"
    fields = {str(f.of): f for f in spec.inputs("context") if f.kind == kind}
    column = weights.column or EVENT_TYPE
    if column not in fields:
        known = f"it keeps numbers of {', '.join(fields) or 'no column'}" if weights.column else "it keeps none"
        raise ConfigError(
            f"the weights {weights} need {column!r} as a {kind} field of the history, and {known}; add a field with role=history "
            f"and of={column} to the view that keeps the history of service '{spec.service}'"
        )
    return fields[column]


def unlike_mapping(weights: EventWeights | None, imported: Mapping[str, float] | str | None) -> str | None:
    """Return a warning if the mapping of the import says other weights than the feature repository, which are those that count.

    Args:
        weights: of the feature repository.
        imported: of the mapping.
    """
    said = None if imported is None else EventWeights.of(imported, "the mapping of the import")
    if said is None or said == weights:
        return None
    repository = "gives them none" if weights is None else f"by {weights}"
    return (
        f"the mapping of the import weighs events by {said}, the feature repository {repository}, which counts; the view that "
        f'keeps the history takes the tag "{TAG}": "{said}"'
    )


def unknown_weighted(weights: EventWeights, types: Collection[str], what: str = "a weight") -> list[str]:
    """Return a sentence for each type that has a weight and no event.

    Args:
        weights: the weights.
        types: all types of the events that are weighed.
        what: beginning of the sentences.
    """
    return [unknown_type(name, types, what) for name, _ in weights.types if name not in types]


def unknown_type(name: str, types: Collection[str], what: str) -> str:
    """Return the sentence on a type that no event has, with the one that was probably meant."""
    near = get_close_matches(name, list(types), n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, list(types)[:20])) or 'none'}"
    return f"{what} is for the event type {name!r}, which no event has; {meant}"


def _type(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(
            f"{where}: the type {name!r} is no text; put it in quotes, as YAML reads it as something else"
        )
    if not name or name != name.strip():
        raise ConfigError(f"{where}: the type {name!r} is blank, or has blanks around it, which no event type has")
    return name


def _weight(name: Any, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{where}: the weight of {name!r} must be a number of 0 or more, not {value!r}")
    return float(value)
