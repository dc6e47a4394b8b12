"""Checks of the stores: the platform's registry and its served bundle, Feast's registry, the online store and its content.

None of them creates or upgrades anything.
"""

import duckdb
from sqlalchemy import make_url

from rf_platform.doctor.check import Finding, fail, ok, warn
from rf_platform.doctor.reach import online_store_url, problem_of
from rf_platform.errors import CorruptError, NotFoundError, RfError
from rf_platform.features.meanings import SEEN, check_meaning_columns, with_meaning
from rf_platform.features.seen import ITEMS, VIEW, seen_view
from rf_platform.interrupts import raise_if_received
from rf_platform.object_store import Kind, ObjectStore
from rf_platform.redaction import without_password
from rf_platform.registry import BundleRecord, Registry, check_bundle, check_spec, features_now
from rf_platform.registry.engine import database_file, explained, make_engine, parse_url, revision, state
from rf_platform.settings import Settings
from rf_platform.sql import identifier, pattern_literal

_REGISTRY_REMEDY = "check RF_REGISTRY_URL and the server; a damaged file: restore it from a copy, or move it away"
_ONLINE_REMEDY = "check RF_ONLINE_STORE_URL and the server; a damaged file: delete it and run `rf features materialize`"
_FEAST_REMEDY = "check RF_FEAST_REGISTRY_URL and the server; a damaged file: delete it and run `rf features apply`"


def check_registry(settings: Settings) -> Finding:
    """Is the platform's registry reachable, and are its tables up to date?"""
    url = parse_url(settings.platform_registry_url)
    where = url.render_as_string()
    file = database_file(url)
    if file is not None and not file.exists():
        return warn(f"no registry at {where} yet", "the first command that records something creates it")
    if problem := problem_of(settings.platform_registry_url):
        return fail(f"{where}: {problem}", _REGISTRY_REMEDY)
    with explained(url), make_engine(url).connect() as connection:
        current = revision(connection)
    match state(current):
        case "current":
            return ok(f"{where}, schema revision {current}")
        case "newer":
            return fail(
                f"{where} has schema revision {current}, which this version does not know",
                "upgrade this installation, or point RF_REGISTRY_URL at another database",
            )
        case _:
            return warn(
                f"{where} has no up-to-date tables yet", "the next command that uses it creates or upgrades them"
            )


def existing_registry(settings: Settings) -> Registry | None:
    """Open the platform's registry without changing it, or return None if it has no up-to-date tables."""
    url = parse_url(settings.platform_registry_url)
    file = database_file(url)
    if file is not None and not file.exists():
        return None
    engine = make_engine(url)
    with explained(url), engine.connect() as connection:
        if state(revision(connection)) != "current":
            return None
    return Registry(engine, settings.workspace.root)


def check_feature_registry(settings: Settings) -> Finding:
    """Can Feast's registry be read, and is the feature service in it usable?"""
    from rf_platform.features.store import repo_config

    if _no_repository(settings):
        return warn(
            f"no Feast repository for {settings.workspace.root} yet", "`rf data import`, or set RF_FEATURE_REPO"
        )
    path = str(repo_config(settings).registry.path)
    if "://" in path:
        file = database_file(make_url(path))
        if file is not None and not file.exists():
            return warn(f"no feature registry at {file} yet", "`rf features apply`")
        if problem := problem_of(path):
            return fail(f"{without_password(path)}: {problem}", _FEAST_REMEDY)
    spec = features_now(settings)
    views = len({field.view for field in spec.fields})
    return ok(f"service '{spec.service}': {len(spec.fields)} fields of {views} views, spec {spec.hash[:12]}")


def check_online_store(settings: Settings) -> Finding:
    """Check that the online store answers."""
    if settings.online_store_url:
        url = settings.online_store_url
    elif _no_repository(settings):
        return warn(
            f"no online store of {settings.workspace.root} yet",
            "`rf data import`, `rf features apply` and `rf features materialize`",
        )
    else:
        from rf_platform.features.store import repo_config

        url = online_store_url(repo_config(settings))
    where = without_password(url)
    if url.startswith("sqlite"):
        file = database_file(make_url(url))
        if file is None or not file.exists():
            return warn(f"no online store at {file} yet", "`rf features materialize`")
    if problem := problem_of(url):
        return fail(f"{where}: {problem}", _ONLINE_REMEDY)
    return ok(where)


def _no_repository(settings: Settings) -> bool:
    """Is it too early for a Feast repository? A missing one later on is an error, and raised."""
    from rf_platform.features.store import find_repository

    try:
        find_repository(settings)
    except NotFoundError:
        if settings.feature_repo is not None or settings.workspace.tables.is_dir():
            raise
        return True
    return False


def check_served_bundle(settings: Settings) -> Finding:
    """Is the served bundle there, every byte of it?"""
    record = _served(settings)
    if record is None:
        return warn(f"no bundle of {settings.workspace.root} is served yet", "`rf index build`, then `rf promote NAME`")
    if _elsewhere(record, settings):
        return ok(f"{record.name} is not on this host yet: a server that starts fetches it from the object store")
    manifest = check_bundle(record, signed_by=settings.require_signature)
    return ok(f"{record.name}: {len(manifest.files)} files, {manifest.total_bytes / (1 << 20):,.1f} MiB, intact")


def check_served_features(settings: Settings) -> Finding:
    """Check that the feature store offers all that the served bundle reads."""
    record = _served(settings)
    if record is None:
        return ok(f"no bundle of {settings.workspace.root} is served yet")
    try:
        current = features_now(settings)
    except RfError:
        return warn("cannot be compared: Feast's registry is not readable", "see the check of Feast's registry")
    if _elsewhere(record, settings):
        return ok(f"{record.name} is not on this host yet")
    try:
        fit = check_spec(record, current)
    except CorruptError:
        return warn(f"cannot be compared: the files of {record.name} are damaged", "see the check of the served bundle")
    return ok(f"the feature store offers all that {record.name} reads", "; ".join(fit.notes))


def check_object_store(settings: Settings) -> Finding:
    """Check that the object store can be read."""
    if settings.store_url is None:
        return ok("none: bundles, datasets and runs stay in the workspace (RF_STORE_URL)")
    store = ObjectStore(settings)
    counts = ", ".join(f"{len(store.remote.directories(f'{kind}s/'))} {kind}s" for kind in Kind)
    return ok(f"{store.remote.url}: {counts}")


def _elsewhere(record: BundleRecord, settings: Settings) -> bool:
    return settings.store_url is not None and not record.path.exists()


def _served(settings: Settings) -> BundleRecord | None:
    registry = existing_registry(settings)
    return None if registry is None else registry.active_bundle()


_REMEDIES = {
    "behind": "a running `rf serve` applies the missing events again by itself; start one",
    "unloaded": "a running `rf serve` beside the tables loads it again by itself; or run `rf features materialize`",
    "foreign": (
        "check RF_ONLINE_STORE_URL and RF_REGISTRY_URL; restore the newer event log, or have the store follow this one with "
        "`rf features materialize`, which drops what the log does not have"
    ),
}


def check_store_position(settings: Settings) -> Finding:
    """Check that the online store has what was materialised and applied."""
    from rf_platform.failures import summary
    from rf_platform.features.store import open_store
    from rf_platform.features.store_marks import Standing, standing_of

    try:
        compared = standing_of(settings, open_store(settings))
    except Exception as error:  # each online store raises its own classes
        raise_if_received()
        return warn(
            f"the marks of the online store cannot be read: {summary(error)}", "see the check of the online store"
        )
    match compared.standing:
        case Standing.CURRENT | Standing.FINISHING:
            return ok(f"the online store has the last load, and events up to number {compared.position:,}")
        case Standing.UNMARKED:
            return warn(
                "the online store has no marks: it would not be noticed if it went back in time",
                "`rf features materialize`, or start `rf serve`",
            )
        case Standing.FOREIGN:
            return fail(compared.detail, _REMEDIES["foreign"])
        case _:
            return warn(compared.detail, _REMEDIES[compared.standing.value])


def check_store_content(settings: Settings) -> Finding:
    """Check that the online store has the rows that the tables have: no view never, partly or long ago materialised."""
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.features.store_content import store_content

    if not (settings.workspace.tables / "interactions.parquet").exists():
        return ok(f"no interactions are imported in {settings.workspace.root}")
    store = open_store(settings)
    found = store_content(settings, store, read_definitions(store, settings.feature_service))
    if problems := [each.problem for each in found if each.problem]:
        return warn("; ".join(problems), "`rf features materialize`")
    counted = ", ".join(f"{each.view} {each.keys:,}" for each in found)
    return ok(f"keys of the tables that were looked at all have a row: {counted}")


_SAMPLE = 16
_REMEDY = "`rf features materialize`; until then exclude_seen leaves out the items of the history alone"


def check_seen_sets(settings: Settings) -> Finding:
    """Check that the online store has the seen sets of users with interactions."""
    from rf_platform.failures import summary
    from rf_platform.features.store import open_store, repo_config

    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        return ok("no interactions are imported here")
    config = repo_config(settings)
    if config.online_store.type == "sqlite":
        file = database_file(make_url(online_store_url(config)))
        if file is None or not file.exists():
            return warn(f"no online store at {file} yet", _REMEDY)
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    from rf_platform.features.read import read_spec

    store = open_store(settings)
    spec = read_spec(store, settings.feature_service)
    view = seen_view(store, spec)
    (entity,) = view.entity_columns
    with duckdb.connect() as db:
        log = f"read_parquet({pattern_literal(interactions)})"
        columns = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {log}").fetchall()}
        check_meaning_columns(spec.meanings, columns, str(interactions))
        log = with_meaning(spec.meanings, log, *SEEN)
        rows = db.execute(f"SELECT DISTINCT {identifier(spec.user.join_key)} FROM {log} LIMIT {_SAMPLE}").fetchall()
    values = python_values_to_proto_values([row[0] for row in rows], entity.dtype.to_value_type()) if rows else []
    keys = [EntityKey(join_keys=[entity.name], entity_values=[value]) for value in values]
    try:
        found = store._get_provider().online_store.online_read(store.config, view, keys, [ITEMS])
    except Exception as error:  # each online store has its own way to say that it has no such table
        raise_if_received()
        return warn(f"{VIEW} cannot be read: {summary(error)}", _REMEDY)
    there = sum(bool(row and row[ITEMS].WhichOneof("val")) for _, row in found)
    if there < len(keys):
        return warn(f"{len(keys) - there} of {len(keys)} users that were looked at have no row of {VIEW}", _REMEDY)
    return ok(f"{VIEW}: {there} users looked at")
