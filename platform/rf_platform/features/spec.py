"""FeatureSpec: what the model is built from, read from a Feast feature service and carried with every artifact.

The spec is plain data without Feast, so that training and serving can load it from a file. Its hash travels from the dataset
through the bundle into every reply (paper rows R1, R4).
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rf_platform.errors import ConfigError
from rf_platform.failures import reading
from rf_platform.features.dtype import Dtype, Kind
from rf_platform.features.event_weights import EventWeights
from rf_platform.features.meanings import MeaningRule
from rf_platform.literals import PLAIN, Writing

Side = Literal["user", "item", "context"]
"""Owner of a feature; ``context`` describes one interaction of the history."""
Role = Literal["feature", "history", "display", "recommendable", "label", "ignore"]
"""``feature`` feeds the model; ``history`` is one column of the recent interactions; ``display`` is shown to people;
``recommendable`` says whether an item is offered; ``label`` is an outcome, kept beside the data and never an input;
``ignore`` is left out."""
IdType = Literal["int64", "string"]

ITEM_ID_DOMAIN = "item_id"
"""Domain of the item id itself, which a recipe may use as one more, heavily noised, feature."""

_MOST_LEVELS, _MOST_CODES = 4, 4096
SEMANTIC_ID = "semantic_id"
"""Beginning of the features and domains of semantic ids, which a number follows."""


@dataclass(frozen=True, kw_only=True)
class EntitySpec:
    """An entity of the feature store: its join key and the type of its ids."""

    name: str
    join_key: str
    id_type: IdType


@dataclass(frozen=True, kw_only=True)
class DomainSpec:
    """One embedding table: all fields of a domain share it (R4)."""

    name: str
    value_type: IdType
    buckets: int | None = None
    """Number of hash buckets, or None for a vocabulary learned from the training split."""

    @property
    def policy(self) -> str:
        """The cardinality policy as it is written in a ``vocabulary`` tag."""
        return "learned" if self.buckets is None else f"hash:{self.buckets}"


@dataclass(frozen=True, kw_only=True)
class SemanticSpec:
    """Semantic ids of items: residual codes of their content, each prefix of which is a categorical value."""

    levels: int
    """Codes of an item, the coarsest first."""
    codes: int
    """Different codes of a level."""

    @classmethod
    def parse(cls, text: str, where: str) -> "SemanticSpec":
        """Read ``3x256``: levels and codes.

        Raises:
            ConfigError: it is something else; the message begins with ``where``.
        """
        found = re.fullmatch(r"(\d)x(\d{1,4})", text)
        levels, codes = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= levels <= _MOST_LEVELS or not 2 <= codes <= _MOST_CODES:
            raise ConfigError(
                f"{where}; write LEVELSxCODES, with 1 to {_MOST_LEVELS} levels of 2 to {_MOST_CODES} codes, for example 3x256"
            )
        return cls(levels=levels, codes=codes)

    @property
    def names(self) -> list[str]:
        """Features and domains of the prefixes, the shortest first."""
        return [f"{SEMANTIC_ID}_{level + 1}" for level in range(self.levels)]


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One field of a feature view and what it means to the model."""

    view: str
    field: str
    side: Side
    kind: Kind
    role: Role
    dtype: str
    """Feast's name of the type, for example ``Array(String)``."""
    domain: str | None = None
    """Embedding domain; None unless the kind is categorical or multi."""
    of: str | None = None
    """Column of the interaction log that a ``history`` field keeps."""
    writing: Writing = PLAIN
    """Form of its values where they are given as text."""

    @cached_property
    def name(self) -> str:
        """The full name ``view__field``, by which the feature is addressed everywhere."""
        return f"{self.view}__{self.field}"

    @cached_property
    def type(self) -> Dtype:
        """The type of its values."""
        return Dtype.of(self.dtype)


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """All that the model needs to know of a feature service."""

    service: str
    user: EntitySpec
    item: EntitySpec
    fields: tuple[FieldSpec, ...]
    """Sorted by full name: Feast's own order changes between processes."""
    domains: tuple[DomainSpec, ...]
    history_length: int
    """Number of a user's latest interactions that the online store keeps."""
    meanings: tuple[MeaningRule, ...] = ()
    """Rules for the meaning of events: the first that matches counts; all others are wanted."""
    semantic: SemanticSpec | None = None
    """Semantic ids of items, from the service's tag ``semantic_ids``."""
    weights: EventWeights | None = None
    """Weights of events as targets of training; None: all weigh the same."""

    def inputs(self, side: Side) -> tuple[FieldSpec, ...]:
        """Return the fields that feed the model on one side; for ``context``, without the item ids themselves."""
        roles = ("history",) if side == "context" else ("feature",)
        return tuple(f for f in self.fields if f.side == side and f.role in roles and f.of != self.item.join_key)

    def carried(self, side: Side) -> tuple[FieldSpec, ...]:
        """Return the fields of the user or item side that a dataset carries: inputs, fields to show and labels."""
        roles = ("feature", "display", "recommendable", "label")
        return tuple(f for f in self.fields if f.side == side and f.role in roles)

    @property
    def recommendable(self) -> FieldSpec | None:
        """The field that says which items are offered, or None where all are."""
        return next((f for f in self.fields if f.role == "recommendable"), None)

    @property
    def read(self) -> tuple[FieldSpec, ...]:
        """The fields that a model reads: the features of both sides and all of the history."""
        return (*self.inputs("item"), *self.inputs("user"), *self.history)

    @property
    def history(self) -> tuple[FieldSpec, ...]:
        """The fields that hold the recent interactions, item ids included."""
        return tuple(f for f in self.fields if f.role == "history")

    @property
    def history_items(self) -> FieldSpec | None:
        """The field that holds the item ids of the recent interactions, or None if the service has none."""
        return next((f for f in self.history if f.of == self.item.join_key), None)

    @property
    def embedding_domains(self) -> tuple[DomainSpec, ...]:
        """All domains, that of the item id always among them, and those of semantic ids."""
        known = (*self.domains, *self.semantic_domains)
        if any(d.name == ITEM_ID_DOMAIN for d in known):
            return known
        return (*known, DomainSpec(name=ITEM_ID_DOMAIN, value_type=self.item.id_type))

    @property
    def semantic_domains(self) -> tuple[DomainSpec, ...]:
        """Domains of the prefixes of semantic ids, the shortest first."""
        names = [] if self.semantic is None else self.semantic.names
        return tuple(DomainSpec(name=name, value_type="int64") for name in names)

    def domain(self, name: str) -> DomainSpec:
        """Return a domain by name."""
        return next(d for d in self.embedding_domains if d.name == name)

    def field(self, name: str) -> FieldSpec:
        """Return a field by its full name."""
        return next(f for f in self.fields if f.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data; what is usual is left out, so a spec is as it was before it could be said."""
        data = asdict(self)
        for field in data["fields"]:
            if field["writing"] == asdict(PLAIN):
                del field["writing"]
        for name in ("meanings", "semantic", "weights"):
            if not data[name]:
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FeatureSpec":
        """Rebuild a spec from :meth:`to_dict`."""
        return cls(
            service=data["service"],
            user=EntitySpec(**data["user"]),
            item=EntitySpec(**data["item"]),
            fields=tuple(
                FieldSpec(**{**f, "writing": Writing(**f["writing"])} if "writing" in f else f) for f in data["fields"]
            ),
            domains=tuple(DomainSpec(**d) for d in data["domains"]),
            history_length=data["history_length"],
            meanings=tuple(
                MeaningRule(**{**rule, "types": None if rule["types"] is None else tuple(rule["types"])})
                for rule in data.get("meanings", ())
            ),
            semantic=SemanticSpec(**data["semantic"]) if "semantic" in data else None,
            weights=EventWeights(
                types=tuple((name, weight) for name, weight in data["weights"]["types"]),
                column=data["weights"]["column"],
            )
            if "weights" in data
            else None,
        )

    def save(self, path: Path) -> None:
        """Write the spec as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "FeatureSpec":
        """Read a spec written by :meth:`save`.

        Raises:
            CorruptError: it cannot be read, or this version knows other fields.
        """
        with reading(path, "restore it, or build again what it belongs to"):
            return cls.from_dict(json.loads(path.read_text()))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, in hex."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def merge_domains(fields: list[tuple[FieldSpec, IdType, int | None, bool]]) -> tuple[DomainSpec, ...]:
    """Combine what each field asks of its domain.

    Args:
        fields: field, type of its values, hash buckets (None: learned vocabulary), and whether the policy was written down.

    Raises:
        ConfigError: two fields of one domain ask for different policies or hold different types of value.
    """
    domains: dict[str, tuple[DomainSpec, FieldSpec, bool]] = {}
    for field, value_type, buckets, explicit in fields:
        assert field.domain is not None
        asked = DomainSpec(name=field.domain, value_type=value_type, buckets=buckets)
        if field.domain not in domains:
            domains[field.domain] = (asked, field, explicit)
            continue
        known, first, first_explicit = domains[field.domain]
        if known.value_type != value_type:
            raise ConfigError(
                f"domain '{field.domain}' holds {known.value_type} values in {first.view}.{first.field} and {value_type} "
                f"values in {field.view}.{field.field}; give one of them another 'domain' tag or the same dtype"
            )
        if explicit and first_explicit and known.buckets != buckets:
            raise ConfigError(
                f"domain '{field.domain}' has two policies: vocabulary={known.policy} in {first.view}.{first.field} and "
                f"vocabulary={asked.policy} in {field.view}.{field.field}; use one of them in both"
            )
        if explicit and not first_explicit:
            domains[field.domain] = (asked, field, True)
    return tuple(domains[name][0] for name in sorted(domains))
