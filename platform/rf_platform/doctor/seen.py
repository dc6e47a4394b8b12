"""Check of the seen sets in the online store."""

import duckdb
from sqlalchemy import make_url

from rf_platform.doctor.check import Finding, ok, warn
from rf_platform.doctor.reach import online_store_url
from rf_platform.features.meanings import SEEN, check_meaning_columns, with_meaning
from rf_platform.features.seen import ITEMS, VIEW, seen_view
from rf_platform.interrupts import raise_if_received
from rf_platform.registry.engine import database_file
from rf_platform.settings import Settings
from rf_platform.sql import identifier, pattern_literal

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
