"""Read a FeatureSpec, and where each view's values lie, from the Feast registry.

Nothing about features is written down anywhere else: kinds follow Feast's dtypes and ``Field.tags`` override them.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.features.dtype import ELEMENTS, SUPPORTED, Dtype, Kind
from rf_platform.features.event_weights import TAG as WEIGHTS
from rf_platform.features.event_weights import EventWeights, parse_weights
from rf_platform.features.meaning_rules import TAG as MEANINGS
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.meanings import MeaningRule
from rf_platform.features.spec import (
    ITEM_ID_DOMAIN,
    EntitySpec,
    FeatureSpec,
    FieldSpec,
    IdType,
    Role,
    SemanticSpec,
    Side,
    merge_domains,
)
from rf_platform.features.store import TABLES
from rf_platform.features.supported import check_names, check_view, merged_projections
from rf_platform.literals import Writing

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureStore, FeatureView

SEMANTIC = "semantic_ids"
"""Tag of a service that gives its items semantic ids."""
_VIEW_TAGS = ("history_length", MEANINGS, WEIGHTS)
_KNOWN_TAGS = ("kind", "domain", "vocabulary", "role", "of", "separator", "decimal", "timezone")
_OF_HISTORY = tuple(Dtype(name, is_list=True) for name in ELEMENTS if name != "Bool")
_DEFAULT_HISTORY_LENGTH = 50
_DOMAIN = r"[A-Za-z0-9_-]+"
EVENT_TIME = "event_timestamp"
"""Column of the interaction log that says when an interaction happened."""


@dataclass(frozen=True, kw_only=True)
class ViewSource:
    """Location and join keys of the rows of one feature view."""

    view: str
    side: Side
    path: str
    """A Parquet file or glob."""
    join_key: str
    timestamp: str
    created: str | None
    """Column that says when a row became known; a row is not used before."""
    ttl: timedelta | None
    columns: dict[str, str]
    """Feature name -> column of the file."""
    online: bool = True
    """Whether the view is loaded into the online store."""


@dataclass(frozen=True, kw_only=True)
class FeatureDefinitions:
    """A feature service as the platform understands it."""

    spec: FeatureSpec
    sources: tuple[ViewSource, ...]
    """One per view of the service."""


def read_spec(store: "FeatureStore", service: str) -> FeatureSpec:
    """Read the FeatureSpec of a feature service, wherever its files are; raises as :func:`read_definitions` otherwise."""
    return _read(store, service).spec


def read_definitions(store: "FeatureStore", service: str) -> FeatureDefinitions:
    """Read a feature service from the registry.

    Raises:
        NotFoundError: the registry has no such service.
        ConfigError: a definition cannot be served to the model (the message names view and field), or the files of the
            views are those of another workspace.
    """
    here, registered = getattr(store.config, TABLES, None), _registered_tables(store)
    if here and registered and registered != here:
        raise ConfigError(
            f"the feature definitions were registered for the tables in {registered}, and this workspace has its own in "
            f"{here}: it was moved or copied, or shares a registry; run `rf features apply`"
        )
    return _read(store, service)


def _read(store: "FeatureStore", service: str) -> FeatureDefinitions:
    return parse_definitions(
        store.project,
        store.list_entities(),
        store.list_feature_views(),
        store.list_feature_services(),
        service,
        Path(str(store.config.repo_path)) if store.config.repo_path else None,
    )


def _registered_tables(store: "FeatureStore") -> str | None:
    project = next((p for p in store.list_projects() if p.name == store.project), None)
    return None if project is None else project.tags.get(TABLES)


def parse_definitions(
    project: str,
    entities: "list[Entity]",
    views: "list[FeatureView]",
    services: "list[FeatureService]",
    service: str,
    repository: Path | None = None,
) -> FeatureDefinitions:
    """Understand Feast objects, registered or not; raises as :func:`read_definitions`.

    Relative paths of sources start at ``repository``, as they do for Feast.
    """
    found_service = next((s for s in services if s.name == service), None)
    if found_service is None:
        raise NotFoundError(
            f"no feature service '{service}' in the feature registry of project '{project}' "
            f"(it has: {', '.join(s.name for s in services) or 'none'}); run `rf features apply`, or set RF_FEATURE_SERVICE to "
            f"the name it has now"
        )
    if misplaced := next((tag for tag in (MEANINGS, WEIGHTS) if tag in found_service.tags), None):
        raise ConfigError(
            f"service '{service}' has the tag {misplaced}, which belongs to the view that keeps the history: its row is the same "
            f"for all services"
        )
    semantic = _semantic(found_service)
    sides = {side: _entity({e.name: e for e in entities}, side) for side in ("user", "item")}
    if sides["user"].join_key == sides["item"].join_key:
        raise ConfigError(
            f"the entities 'user' and 'item' have the same join key {sides['user'].join_key!r}; give each its own"
        )
    fields: list[FieldSpec] = []
    domains: list[tuple[FieldSpec, IdType, int | None, bool]] = []
    sources: list[ViewSource] = []
    lengths: dict[str, int] = {}
    meanings: dict[str, tuple[MeaningRule, ...]] = {}
    weights: dict[str, EventWeights] = {}
    known_views = {v.name: v for v in views}
    for name, wanted in merged_projections(found_service).items():
        view = known_views.get(name)
        if view is None:
            raise ConfigError(
                f"view '{name}' of service '{service}' is not a plain feature view; on-demand and stream views "
                f"are not supported: compute the feature upstream, or use a feature view over a batch source"
            )
        side = _side(view, sides)
        check_view(view, side)
        found = [
            _field(view.name, side, f, sides["item"].join_key)
            for f in sorted(view.schema, key=lambda f: f.name)
            if f.name in wanted
        ]
        roles = {f.role for f, *_ in found if f.role != "ignore"}
        if "history" in roles:
            if len(roles) > 1 or side != "context":
                raise ConfigError(
                    f"view '{view.name}' mixes history fields with others (or is not a view of the user): put the fields "
                    f"with role=history into a view of their own with entity '{sides['user'].name}'"
                )
            _check_view_tags(view)
            if (length := _history_length(view)) is not None:
                lengths[view.name] = length
            if (text := view.tags.get(MEANINGS)) is not None:
                meanings[view.name] = parse_meanings(text, f"view '{view.name}'")
            if (text := view.tags.get(WEIGHTS)) is not None:
                weights[view.name] = parse_weights(text, f"view '{view.name}'")
        elif misplaced := next((tag for tag in (MEANINGS, WEIGHTS) if tag in view.tags), None):
            raise ConfigError(
                f"view '{view.name}' has the tag {misplaced} and keeps no history; the {misplaced} of events belong to the view "
                f"with the fields of role=history"
            )
        fields += [f for f, *_ in found]
        domains += [(f, t, b, e) for f, t, b, e in found if f.domain is not None]
        join_key = sides["item" if side == "item" else "user"].join_key
        sources.append(_source(view, side, join_key, [f for f, *_ in found], repository))
    if len(set(lengths.values())) > 1:
        raise ConfigError(
            f"the history views of service '{service}' have different history_length tags "
            f"({', '.join(f'{view}: {length}' for view, length in sorted(lengths.items()))}); their arrays describe the same "
            f"interactions position by position: give all of them the same"
        )
    for tag, said in ((MEANINGS, meanings), (WEIGHTS, weights)):
        if len(set(said.values())) > 1:
            raise ConfigError(
                f"the history views {' and '.join(sorted(said))} of service '{service}' have different {tag} tags; their "
                f"arrays describe the same interactions: give all of them the same, or one of them alone"
            )
    check_names([f for f in fields if f.role != "ignore"])
    item_ids = [f for f in fields if f.of == sides["item"].join_key]
    if len(item_ids) > 1:
        raise ConfigError(f"{' and '.join(f.name for f in item_ids)} both keep the item ids of the history; drop one")
    for field, value_type, _, _ in domains:
        if semantic is not None and field.domain in semantic.names:
            raise ConfigError(
                f"{field.view}.{field.field} has the domain '{field.domain}', which is that of the semantic ids; give it another"
            )
        if field.domain == ITEM_ID_DOMAIN and value_type != sides["item"].id_type:
            raise ConfigError(
                f"{field.view}.{field.field} puts {value_type} values into domain '{ITEM_ID_DOMAIN}', whose ids are "
                f"{sides['item'].id_type}"
            )
    return FeatureDefinitions(
        spec=FeatureSpec(
            service=service,
            user=sides["user"],
            item=sides["item"],
            fields=tuple(sorted(fields, key=lambda f: f.name)),
            domains=merge_domains(sorted(domains, key=lambda d: d[0].name)),
            history_length=next(iter(lengths.values()), _DEFAULT_HISTORY_LENGTH),
            meanings=next(iter(meanings.values()), ()),
            semantic=semantic,
            weights=next(iter(weights.values()), None),
        ),
        sources=tuple(sorted(sources, key=lambda s: s.view)),
    )


def _semantic(service: Any) -> SemanticSpec | None:
    """Return what the service's tag says of semantic ids."""
    for tag in sorted(set(service.tags) - {SEMANTIC}):
        if get_close_matches(tag.lower(), [SEMANTIC], n=1, cutoff=0.75):
            raise ConfigError(f"service '{service.name}' has the unknown tag {tag!r}; did you mean {SEMANTIC!r}?")
    text = service.tags.get(SEMANTIC)
    return (
        None if text is None else SemanticSpec.parse(text, f"service '{service.name}' has the tag {SEMANTIC}={text!r}")
    )


def _entity(entities: dict[str, Any], name: str) -> EntitySpec:
    if name not in entities:
        raise ConfigError(
            f"the feature registry has no entity '{name}' (it has: {', '.join(sorted(entities)) or 'none'})"
        )
    entity = entities[name]
    value_type = entity.value_type.name
    if value_type not in ("INT64", "INT32", "STRING"):
        raise ConfigError(f"entity '{name}' has value_type {value_type}; ids must be INT64 or STRING")
    return EntitySpec(name=name, join_key=entity.join_key, id_type="string" if value_type == "STRING" else "int64")


def _side(view: Any, sides: dict[str, EntitySpec]) -> Side:
    if list(view.entities) == [sides["item"].name]:
        return "item"
    if list(view.entities) == [sides["user"].name]:
        return "context" if any(f.tags.get("role") == "history" for f in view.schema) else "user"
    raise ConfigError(
        f"view '{view.name}' has the entities {list(view.entities)}; a view of this service needs exactly one of "
        f"'{sides['user'].name}' and '{sides['item'].name}'"
    )


def _field(view: str, side: Side, field: Any, item_key: str) -> tuple[FieldSpec, IdType, int | None, bool]:
    """Return the field, the type of its values, its hash buckets and whether its policy was written down."""
    where, dtype, tags = f"{view}.{field.name}", Dtype.of(str(field.dtype)), dict(field.tags)
    for tag in sorted(
        set(tags).difference(_KNOWN_TAGS)
    ):  # tags of the team's own are welcome, misspelt ones of ours are not
        if meant := get_close_matches(tag.lower(), _KNOWN_TAGS, n=1, cutoff=0.75):
            raise ConfigError(f"{where} has the unknown tag {tag!r}; did you mean {meant[0]!r}?")
    role: Role = _choice(where, "role", tags.get("role", "feature"), get_args(Role))
    of = tags.get("of")
    if role == "history" and of is None:
        raise ConfigError(
            f"{where} has role=history but no tag 'of' that names the column of the interaction log it keeps"
        )
    if role != "history" and of is not None:
        raise ConfigError(f"{where} has the tag of={of!r}, which belongs to fields with role=history")
    value = dtype
    if role == "history":
        if not dtype.is_list:
            raise ConfigError(
                f"{where} has role=history and dtype {dtype}; a history is an array, such as Array(Int64)"
            )
        value = dtype.single
    allowed = value.kinds
    if role == "history" and dtype not in _OF_HISTORY:
        raise ConfigError(
            f"{where} has role=history and dtype {dtype}; supported are {', '.join(map(str, _OF_HISTORY))}"
        )
    writing = Writing.of_tags(tags, where)
    if role == "recommendable" and (side != "item" or not (dtype.is_integer or dtype == Dtype("Bool"))):
        raise ConfigError(
            f"{where} has role=recommendable, side {side} and dtype {dtype}; it is Int64 or Bool, of "
            f"items, and says 0 or 1"
        )
    if role in ("ignore", "display", "recommendable", "label"):
        kind: Kind = allowed[0] if allowed else "categorical"
        return (
            FieldSpec(view=view, field=field.name, side=side, kind=kind, role=role, dtype=str(dtype), writing=writing),
            "string",
            None,
            False,
        )
    if not allowed:
        raise ConfigError(
            f"{where} has the unsupported dtype {dtype}; supported are {', '.join(map(str, SUPPORTED))} "
            f"(tag the field role=ignore to leave it out of the model)"
        )
    kind = _choice(where, "kind", tags.get("kind", allowed[0]), allowed, f" for dtype {dtype}")
    if role == "history" and kind == "timestamp" and of != EVENT_TIME:
        raise ConfigError(f"{where} keeps of={of!r}; the only timestamp a history can keep is of={EVENT_TIME!r}")
    if kind == "text" and side != "item":
        raise ConfigError(
            f"{where} has kind=text and belongs to '{side}'; texts of items alone are encoded: a request would wait for others"
        )
    if kind not in ("categorical", "multi"):
        for tag in ("domain", "vocabulary"):
            if tag in tags:
                raise ConfigError(
                    f"{where} has the tag {tag}={tags[tag]!r}, but a {kind} feature has no embedding table"
                )
        return (
            FieldSpec(
                view=view, field=field.name, side=side, kind=kind, role=role, dtype=str(dtype), of=of, writing=writing
            ),
            "string",
            None,
            False,
        )
    domain = tags.get("domain", _own_domain(view, field.name)) if of != item_key else ITEM_ID_DOMAIN
    if not re.fullmatch(_DOMAIN, domain):
        raise ConfigError(f"{where} has the tag domain={domain!r}; use letters, digits, '_' and '-' only")
    buckets, explicit = _policy(where, tags.get("vocabulary"))
    spec = FieldSpec(
        view=view,
        field=field.name,
        side=side,
        kind=kind,
        role=role,
        dtype=str(dtype),
        domain=domain,
        of=of,
        writing=writing,
    )
    return spec, "string" if value.element == "String" else "int64", buckets, explicit


def _own_domain(view: str, field: str) -> str:
    """Return the domain of a field that shares it with no other: its full name, as a name of files and modules."""
    name = f"{view}__{field}"
    if re.fullmatch(_DOMAIN, name):
        return name
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)}-{sha256(name.encode()).hexdigest()[:8]}"


def _policy(where: str, tag: str | None) -> tuple[int | None, bool]:
    if tag is None:
        return None, False
    if tag == "learned":
        return None, True
    scheme, _, number = tag.partition(":")
    if scheme == "hash" and number.isdigit() and int(number) > 0:
        return int(number), True
    raise ConfigError(
        f"{where} has the tag vocabulary={tag!r}; write 'learned' or 'hash:BUCKETS', for example hash:65536"
    )


def _choice(where: str, tag: str, value: str, allowed: tuple[Any, ...], why: str = "") -> Any:
    if value not in allowed:
        raise ConfigError(f"{where} has the tag {tag}={value!r}; allowed{why}: {', '.join(allowed)}")
    return value


def _check_view_tags(view: Any) -> None:
    for tag in sorted(set(view.tags).difference(_VIEW_TAGS)):
        if meant := get_close_matches(tag.lower(), _VIEW_TAGS, n=1, cutoff=0.75):
            raise ConfigError(f"view '{view.name}' has the unknown tag {tag!r}; did you mean {meant[0]!r}?")


def _history_length(view: Any) -> int | None:
    """Return what a view's tag says, or None: then it keeps as many interactions as the others."""
    text = view.tags.get("history_length")
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise ConfigError(f"view '{view.name}' has the tag history_length={text!r}; it must be a positive whole number")
    return int(text)


def _source(
    view: Any, side: Side, join_key: str, fields: list[FieldSpec], repository: Path | None = None
) -> ViewSource:
    source = view.batch_source
    mapping = {feature: column for column, feature in source.field_mapping.items()}
    return ViewSource(
        view=view.name,
        side=side,
        path=_glob(source.path, repository),
        join_key=mapping.get(join_key, join_key),
        timestamp=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=view.ttl if view.ttl else None,
        columns={f.field: mapping.get(f.field, f.field) for f in fields if f.role != "ignore"},
        online=view.online,
    )


def _glob(path: str, repository: Path | None) -> str:
    if "://" in path:
        return path
    whole = Path(path) if repository is None else repository / path
    return str(whole / "*.parquet" if whole.is_dir() else whole)
