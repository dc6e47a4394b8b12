"""Limits of the platform beside Feast's language: what is not honoured is refused by name before anything is registered."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from rf_platform.errors import ConfigError
from rf_platform.features.seen import VIEW as SEEN
from rf_platform.features.spec import FieldSpec, Side


def merged_projections(service: Any) -> dict[str, set[str]]:
    """Return the views of a service, each with the fields that it takes, in the order of the service.

    A view that is named twice counts once, with the fields of both.

    Raises:
        ConfigError: the service takes a view under another name, for another key, or an older version of it.
    """
    wanted: dict[str, set[str]] = {}
    for projection in service.feature_view_projections:
        named = f"service '{service.name}' takes view '{projection.name}'"
        renamed = {key: other for key, other in projection.join_key_map.items() if key != other}
        if renamed:
            mapped = ", ".join(f"{key} -> {other}" for key, other in renamed.items())
            raise ConfigError(
                f"{named} with_join_key_map ({mapped}); the interaction log has one user and one item for each event: join the "
                f"values by {', '.join(renamed)} upstream, and make a view of the result"
            )
        if projection.name_alias not in (None, projection.name):
            raise ConfigError(
                f"{named} with_name('{projection.name_alias}'); features are addressed as VIEW__FIELD: define a view of that "
                f"name over the same source"
            )
        if projection.version_tag is not None:
            raise ConfigError(
                f"{named} in version {projection.version_tag}; only the latest definition of a view is used: name it without "
                f"a version"
            )
        wanted.setdefault(projection.name, set()).update(f.name for f in projection.features)
    return wanted


def check_view(view: Any, side: Side) -> None:
    """Check that everything a view says is honoured.

    Raises:
        ConfigError: it is not; the message names the view, and what to do.
    """
    if view.name.lower() == SEEN:
        raise ConfigError(f"view '{view.name}' has the name of the platform's table of seen sets: rename the view")
    if not getattr(view, "enabled", True):
        raise ConfigError(f"view '{view.name}' has enabled=False: enable it, or take it out of the service")
    if getattr(view, "source_views", None) or any(
        getattr(view, name, None) for name in ("udf", "feature_transformation", "aggregations")
    ):
        raise ConfigError(
            f"view '{view.name}' computes its features from others (source views, a transformation or aggregations), which "
            f"datasets do not: compute them upstream, and make a FeatureView of the result"
        )
    if side != "item" and not view.online:
        raise ConfigError(
            f"view '{view.name}' has online=False, and the server reads the features of users from the online store: set "
            f"online=True, or take the view out of the service (views of items may have online=False: they are in the bundle)"
        )
    if view.ttl and side == "context":
        raise ConfigError(
            f"view '{view.name}' keeps histories and has the ttl {view.ttl}; a history does not expire as a whole, and "
            f"training reads it at any age: leave the ttl out, and bound histories by the tag history_length"
        )
    if view.ttl and view.ttl < timedelta(0):
        raise ConfigError(
            f"view '{view.name}' has the ttl {view.ttl}; it must be positive, or 0 for values that do not expire"
        )
    _check_source(view)


def _check_source(view: Any) -> None:
    from feast import FileSource
    from feast.data_format import ParquetFormat

    source = view.batch_source
    if source is None:
        raise ConfigError(
            f"view '{view.name}' has no batch source; training needs one: a FileSource over Parquet files"
        )
    if not isinstance(source, FileSource):
        raise ConfigError(
            f"view '{view.name}' reads from a {type(source).__name__}; datasets are built from FileSource (Parquet) only"
        )
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise ConfigError(
            f"view '{view.name}' reads files in {type(source.file_format).__name__}; datasets are built from Parquet only"
        )
    if source.s3_endpoint_override:
        raise ConfigError(
            f"the source of view '{view.name}' has s3_endpoint_override={source.s3_endpoint_override!r}, which only Feast "
            f"would use: bring the files onto a disk of this host"
        )


def check_names(fields: list[FieldSpec]) -> None:
    """Check that the full names ``view__field`` are different, also where upper and lower case count as one, as in DuckDB.

    Raises:
        ConfigError: two fields have the same.
    """
    known: dict[str, FieldSpec] = {}
    for f in fields:
        if (other := known.setdefault(f.name.lower(), f)) is not f:
            raise ConfigError(
                f"{other.view}.{other.field} and {f.view}.{f.field} have names that cannot be told apart ({other.name}, "
                f"{f.name}): rename one"
            )


def check_tables(engine: str, project: str, views: Iterable[str]) -> None:
    """Check that the online store can have a table for every view.

    Args:
        engine: Feast's name of the online store.
        project: of the feature store, with which Feast begins the names of tables.
        views: names of the views.

    Raises:
        ConfigError: PostgreSQL cannot: Feast does not escape ``%``, and names are cut off after 63 bytes.
    """
    tables: dict[bytes, str] = {}
    for view in views if engine == "postgres" else ():
        name = f"{project}_{view}"
        if "%" in name:
            raise ConfigError(
                f"view '{view}' would have a table of PostgreSQL with '%' in its name, which Feast cannot read: rename the "
                f"view or the project '{project}'"
            )
        if (other := tables.setdefault(name.encode()[:63], view)) != view:
            raise ConfigError(
                f"the views '{other}' and '{view}' would share a table of PostgreSQL, which cuts '{name}' off after 63 bytes: "
                f"rename one"
            )
