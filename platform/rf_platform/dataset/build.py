"""Build a dataset version: all interactions, each with the features that were known just before it.

Everything runs inside DuckDB with a memory limit and spills to disk; only row numbers are joined, so cost does not grow
with the width of the features.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from rf_platform.cli.console import Tracker, track
from rf_platform.data.event_log.reading import log_relation
from rf_platform.data.replacing import reading_tables
from rf_platform.dataset.array_file import write_sequences
from rf_platform.dataset.aside import aside_sql, write_aside
from rf_platform.dataset.asof import first_sql, join_sql, latest_sql, rows_sql
from rf_platform.dataset.coverage import empty_features, measure_coverage
from rf_platform.dataset.dataset import FORMAT, Dataset, fingerprint
from rf_platform.dataset.protocols import LeaveOneOut, SplitProtocol
from rf_platform.dataset.splitting import split_events
from rf_platform.dataset.statistics import learn_encoder, split_counts
from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.failures import read_json, translated
from rf_platform.features.event_weights import unknown_weighted, weighing_field
from rf_platform.features.expiry import as_time, known_sql, now_us
from rf_platform.features.history import check_log_id, log_column
from rf_platform.features.meanings import (
    EVENT_TYPE,
    SEEN,
    check_meaning_columns,
    event_types,
    unknown_types,
    with_meaning,
)
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.sources import describe, view_columns
from rf_platform.features.spec import Side
from rf_platform.features.view_rows import ID_TYPES
from rf_platform.locks import locked
from rf_platform.sql import identifier, literal
from rf_platform.staging import publish, scratch

_MARK = ".building-"


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of a dataset build."""

    memory_limit: str = "3GB"
    """DuckDB's memory limit; what does not fit is spilled next to the dataset."""
    threads: int | None = None
    """CPU threads; default: all."""

    protocol: SplitProtocol = field(default_factory=LeaveOneOut)
    """Decides which events are learned from and which are held out."""
    events: tuple[Path, ...] = ()
    """Files of the event log: interactions that were recorded after the import."""
    clock: bool = True
    """Whether event times are times; see :func:`~rf_platform.data.event_log.log_relation`."""
    moment_us: int | None = None
    """Moment of the newest states of items and users, in microseconds since 1970; default: the present."""
    after_version: int = 0
    """The new version gets a higher number than this, and than any version on disk."""


def build_dataset(
    definitions: FeatureDefinitions,
    interactions: Path,
    directory: Path,
    catalog: str,
    options: BuildOptions | None = None,
) -> tuple[Dataset, bool]:
    """Build a dataset version under ``directory``, or find the equal one that is there already.

    The protocol splits the events (R16). Vocabularies and statistics see the training events only.

    Returns:
        The dataset and whether it is new.

    Raises:
        NotFoundError: the interaction log or the file behind a view is missing.
        DataError: there are no interactions, a feature's values contradict its definition, or the protocol leaves nothing to
            train on.
        UsageError: the protocol's parameters do not suit the interactions.
    """
    options = options or BuildOptions()
    if not interactions.exists():
        raise NotFoundError(f"no interaction log at {interactions}; run `rf data import` first")
    with reading_tables(interactions.parent), scratch(directory, _MARK) as work:
        with translated("the dataset", place=directory), duckdb.connect(str(work / "work.duckdb")) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            try:
                connection.execute(f"SET memory_limit = {literal(options.memory_limit)}")
            except duckdb.Error as error:
                raise ConfigError(
                    f"memory limit {options.memory_limit!r} cannot be used; write it like 3GB or 500MB"
                ) from error
            connection.execute(f"SET temp_directory = {literal(work / 'spill')}")
            if options.threads:
                connection.execute(f"SET threads = {options.threads}")
            content = work / "dataset"
            content.mkdir()
            DatasetBuilder(connection, definitions, interactions, content, options).run()
        with locked(directory):  # two builds at once do not take the same version, nor write the same dataset twice
            return _publish(content, directory, catalog, options.after_version)


def _publish(content: Path, directory: Path, catalog: str, after_version: int) -> tuple[Dataset, bool]:
    """Publish a complete dataset as the next version, unless an equal one exists."""
    manifest = read_json(content / "manifest.json")
    for existing in sorted(directory.glob("*/manifest.json")):
        if read_json(existing, "remove the damaged dataset").get("fingerprint") == manifest["fingerprint"]:
            return Dataset.open(existing.parent), False
    named = (re.fullmatch(rf"{re.escape(catalog)}-v(\d+)", p.name) for p in directory.iterdir())
    on_disk = (int(match[1]) for match in named if match)
    version = 1 + max([after_version, *on_disk])
    manifest |= {"name": f"{catalog}-v{version}", "version": version, "created_at": datetime.now(UTC).isoformat()}
    (content / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    target = directory / f"{catalog}-v{version}"
    publish(content, target, _MARK)
    return Dataset.open(target), True


class DatasetBuilder:
    """The steps of one build; each leaves tables in DuckDB or files in ``content``."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        definitions: FeatureDefinitions,
        interactions: Path,
        content: Path,
        options: BuildOptions,
    ) -> None:
        self.db, self.spec, self.content = connection, definitions.spec, content
        self.sources = definitions.sources
        self.interactions, self.protocol = interactions, options.protocol
        self.events, self.clock = options.events, options.clock
        self.moment_us = now_us() if options.moment_us is None else options.moment_us
        self.facts: dict[str, Any] = {}
        self.warnings = [
            f"view '{source.view}' has a ttl of {source.ttl}, and the times of these events are positions, made by the import: "
            f"ages mean nothing; leave the ttl out"
            for source in self.sources
            if source.ttl is not None and not self.clock
        ]

    def run(self) -> None:
        """Go through all steps."""
        steps = (
            self.read_log,
            self._split,
            self._join_views,
            self._versions,
            self._contexts,
            self._events,
            self._arrays,
            self._finish,
        )
        with track("dataset", len(steps)) as progress:
            for step in steps:
                step()
                self._report(progress, step.__name__)

    def _report(self, progress: Tracker, step: str) -> None:
        progress.advance(note=step.strip("_").replace("_", " "))

    def _one(self, sql: str) -> Any:
        row = self.db.execute(sql).fetchone()
        assert row is not None
        return row[0]

    def _views(self, side: Side) -> list[ViewSource]:
        return [s for s in self.sources if s.side == side]

    def read_log(self) -> None:
        """Order the wanted events as training reads them, and number them: by user, time, input order."""
        user, item, meanings = self.spec.user, self.spec.item, self.spec.meanings
        columns = describe(self.db, str(self.interactions), "the interaction log")
        for entity in (user, item):
            check_log_id(columns, entity, str(self.interactions))
        check_meaning_columns(meanings, columns, str(self.interactions))
        log = log_relation(self.db, self.interactions, self.events, clock=self.clock)
        if EVENT_TYPE in columns and meanings:
            self.warnings += unknown_types(meanings, event_types(self.db, log))
        path = with_meaning(meanings, log, "wanted")
        self._weights(columns, path)
        kept = "".join(
            f", {log_column(self.db, columns, f, f'{path} l', f'l.{identifier(str(f.of))}', str(self.interactions))} "
            f"AS {identifier(f.name)}"
            for f in self.spec.inputs("context")
        )
        if self._one(f"SELECT count(*) FROM {path}") == 0:
            if meanings and self._one(f"SELECT count(*) FROM {log}"):
                rules = ", ".join(map(str, meanings))
                raise DataError(
                    f"by the meanings [{rules}] no event of {self.interactions} is wanted: nothing to learn from"
                )
            raise DataError(f"the interaction log {self.interactions} is empty; import interactions first")
        seen = with_meaning(meanings, log, *SEEN)
        catalog = [f"SELECT {identifier(item.join_key)}::{ID_TYPES[item.id_type]} AS id FROM {seen}"]
        for source in self._views("item"):
            read = view_columns(self.db, source, self.spec)
            self.db.execute(f"CREATE TABLE {rows_table(source)} AS {rows_sql(source, read)}")
            known = known_sql("known", f"make_timestamptz({self.moment_us})")  # what is announced only is not there yet
            catalog.append(f"SELECT key FROM {rows_table(source)} WHERE {known}")
        for source in self._views("user"):
            read = view_columns(self.db, source, self.spec)
            self.db.execute(f"CREATE TABLE {rows_table(source)} AS {rows_sql(source, read)}")
        self.db.execute(
            f"""CREATE TABLE item_index AS
            SELECT id, (row_number() OVER (ORDER BY id) - 1)::INTEGER AS item
            FROM (SELECT DISTINCT id FROM ({" UNION ALL ".join(catalog)}))"""
        )
        self.db.execute(
            f"""CREATE TABLE user_index AS
            SELECT id, (row_number() OVER (ORDER BY id) - 1)::INTEGER AS "user"
            FROM (SELECT DISTINCT {identifier(user.join_key)}::{ID_TYPES[user.id_type]} AS id FROM {path})"""
        )
        self.db.execute(
            f"""CREATE TABLE numbered AS
            SELECT (row_number() OVER ordered - 1)::BIGINT AS event, u."user", i.item, u.id AS user_id, i.id AS item_id,
                l.event_timestamp::TIMESTAMPTZ AS event_timestamp{kept}
            FROM {path} l
            JOIN user_index u ON u.id = l.{identifier(user.join_key)}::{ID_TYPES[user.id_type]}
            JOIN item_index i ON i.id = l.{identifier(item.join_key)}::{ID_TYPES[item.id_type]}
            WINDOW ordered AS (ORDER BY u."user", l.event_timestamp, l.input_order)
            ORDER BY event"""
        )
        if meanings:
            ids = (f"l.{identifier(e.join_key)}::{ID_TYPES[e.id_type]}" for e in (user, item))
            self.db.execute(f"CREATE TABLE aside AS {aside_sql(meanings, log, *ids)}")

    def _weights(self, columns: Mapping[str, str], wanted: str) -> None:
        """Check the weights of events against the log."""
        weights = self.spec.weights
        if weights is None:
            return
        weighing_field(self.spec, weights)
        if weights.column is None and EVENT_TYPE in columns:
            self.warnings += unknown_weighted(weights, event_types(self.db, wanted))

    def _split(self) -> None:
        """Split the events by the protocol."""
        self.facts = split_events(self.db, self.protocol, self.content.parent)

    def _join_views(self) -> None:
        """Find for every event the row of every view that was known just before it."""
        for source in self.sources:
            if source.side != "context":
                key = "item_id" if source.side == "item" else "user_id"
                self.db.execute(f"CREATE TABLE {_joined(source)} AS {join_sql(source, rows_table(source), 'log', key)}")

    def _versions(self) -> None:
        """Find and number the distinct states of items and users: those that an event saw, the newest, those to evaluate with.

        An evaluation may not know more of an item than training did: it uses the state of the item's latest training event,
        or, for an item that training never met, its first state.
        """
        sides: tuple[tuple[Side, str], ...] = (("item", self.spec.item.join_key), ("user", self.spec.user.join_key))
        for side, join_key in sides:
            views = self._views(side)
            columns = "".join(f", {_rid(v)}" for v in views)
            key = identifier(side)
            seen = "".join(f", {_joined(v)}.rid AS {_rid(v)}" for v in views)
            joins = "".join(f" JOIN {_joined(v)} USING (event)" for v in views)
            self.db.execute(f"CREATE TABLE seen_{side} AS SELECT log.event, log.{key}{seen} FROM log{joins}")
            self.db.execute(f"CREATE TABLE newest_{side} AS {self._states(side, views, latest_sql)}")
            for v in (v for v in views if v.ttl is not None and side == "item"):
                latest = latest_sql(v, rows_table(v), self.moment_us)
                if expired := self._one(f"SELECT count(*) FROM ({latest}) WHERE rid IS NULL"):
                    self.warnings.append(
                        f"view '{v.view}': the newest rows of {expired:,} items are older than its ttl of {v.ttl}; the items "
                        f"are indexed without its values"
                    )
            self.db.execute(
                f"""CREATE TABLE evaluated_{side} AS
                WITH trained AS (
                    SELECT s.* EXCLUDE (event) FROM seen_{side} s JOIN log USING (event) WHERE log.split = 0
                    QUALIFY row_number() OVER (PARTITION BY s.{key} ORDER BY log.event_timestamp DESC, event DESC) = 1)
                SELECT * FROM trained UNION ALL
                SELECT * FROM ({self._states(side, views, first_sql)}) WHERE {key} NOT IN (SELECT {key} FROM trained)"""
            )
            states = " UNION ".join(
                f"SELECT {key}{columns} FROM {table}_{side}" for table in ("seen", "newest", "evaluated")
            )
            same = {
                table: " AND ".join(
                    [
                        f"{table}.{key} = v.{key}",
                        *(f"{table}.{_rid(v)} IS NOT DISTINCT FROM v.{_rid(v)}" for v in views),
                    ]
                )
                for table in ("newest", "evaluated")
            }
            numbered = "".join(f", v.{_rid(v)}" for v in views)
            self.db.execute(
                f"""CREATE TABLE versions_{side} AS
                SELECT (row_number() OVER (ORDER BY v.{key}{numbered}) - 1)::INTEGER AS version, v.*,
                    newest.{key} IS NOT NULL AS current, evaluated.{key} IS NOT NULL AS evaluation
                FROM ({states}) v
                LEFT JOIN newest_{side} newest ON {same["newest"]}
                LEFT JOIN evaluated_{side} evaluated ON {same["evaluated"]}"""
            )
            features = "".join(f", r{i}.* EXCLUDE (rid)" for i in range(len(views)))
            values = "".join(
                f" LEFT JOIN (SELECT * EXCLUDE (key, known, ts) FROM {rows_table(v)}"
                f" QUALIFY row_number() OVER (PARTITION BY rid) = 1) r{i} ON r{i}.rid = v.{_rid(v)}"
                for i, v in enumerate(views)
            )
            self.db.execute(
                f"""COPY (
                SELECT v.version, v.{key}, x.id AS {identifier(join_key)}, v.current, v.evaluation{features}
                FROM versions_{side} v JOIN {side}_index x USING ({key}){values}
                ORDER BY v.version) TO {literal(self.content / f"{side}s.parquet")} (FORMAT parquet)"""
            )

    def _states(self, side: Side, views: list[ViewSource], choose: Callable[[ViewSource, str, int], str]) -> str:
        """Return a query over all items or users with one row of every view each, the one that ``choose`` picks."""
        rids = "".join(f", chosen{i}.rid AS {_rid(v)}" for i, v in enumerate(views))
        joins = "".join(
            f" LEFT JOIN ({choose(v, rows_table(v), self.moment_us)}) chosen{i} ON chosen{i}.key = x.id"
            for i, v in enumerate(views)
        )
        return f"SELECT x.{identifier(side)}{rids} FROM {side}_index x{joins}"

    def _contexts(self) -> None:
        """Find and number the distinct combinations of categorical context features."""
        names = [identifier(f.name) for f in self.spec.inputs("context") if f.kind == "categorical"]
        if not names:
            self.db.execute("CREATE TABLE contexts AS SELECT 0 AS context")
        else:
            listed = ", ".join(names)
            self.db.execute(
                f"""CREATE TABLE contexts AS SELECT (row_number() OVER (ORDER BY {listed}) - 1)::INTEGER AS context, *
                FROM (SELECT DISTINCT {listed} FROM log)"""
            )
        self.db.execute(
            f"COPY (SELECT * FROM contexts ORDER BY context) TO {literal(self.content / 'contexts.parquet')} (FORMAT parquet)"
        )

    def _events(self) -> None:
        """Write the enriched events, in order."""
        same = {
            side: " AND ".join(f"s_{side}.{c} IS NOT DISTINCT FROM v_{side}.{c}" for c in self._version_columns(side))
            for side in ("item", "user")
        }
        names = [identifier(f.name) for f in self.spec.inputs("context") if f.kind == "categorical"]
        context = " AND ".join(f"log.{n} IS NOT DISTINCT FROM c.{n}" for n in names) or "true"
        kept = "".join(f", log.{identifier(f.name)}" for f in self.spec.inputs("context"))
        self.db.execute(
            f"""COPY (
                SELECT log.event, log."user", log.item, v_item.version AS item_version, v_user.version AS user_version,
                    c.context, log.event_timestamp, log.split{kept}
                FROM log
                JOIN seen_item s_item USING (event) JOIN versions_item v_item ON {same["item"]}
                JOIN seen_user s_user USING (event) JOIN versions_user v_user ON {same["user"]}
                JOIN contexts c ON {context}
                ORDER BY log.event
            ) TO {literal(self.content / "events.parquet")} (FORMAT parquet, ROW_GROUP_SIZE 200000)"""
        )

    def _version_columns(self, side: Side) -> list[str]:
        return [identifier(side), *(_rid(v) for v in self._views(side))]

    def _arrays(self) -> None:
        """Write the arrays that loaders memory-map."""
        events = pq.ParquetFile(self.content / "events.parquet")
        if events.metadata.num_rows != self._one("SELECT count(*) FROM log"):
            raise AssertionError("the join lost or doubled events")
        users = int(self._one("SELECT count(*) FROM user_index"))
        write_sequences(events, self.spec, users, self.content / "sequences")
        if self.spec.meanings:
            write_aside(self.db, self.content / "sequences")

    def _finish(self) -> None:
        """Learn the encoder on the training split and write spec, statistics and manifest."""
        encoder = learn_encoder(self.db, self.spec, self.content, self.warnings)
        encoder.save(self.content / "encoder")
        coverage = measure_coverage(self.db, self.spec, self.content)
        views = [(s, rows_table(s)) for s in self.sources if s.side != "context"]
        self.warnings += empty_features(self.db, coverage, self.spec, views)
        self.spec.save(self.content / "spec.json")
        manifest = {
            "format": FORMAT,
            "spec_hash": self.spec.hash,
            "fingerprint": fingerprint(self.content, self.spec),
            "protocol": {**self.protocol.to_dict(), **self.facts},
            "counts": split_counts(self.db),
            "vocabularies": {name: v.rows for name, v in encoder.vocabularies.items()},
            "newest_states_at": as_time(self.moment_us).isoformat(),
            "sources": {s.view: Path(s.path).name for s in self.sources if s.side != "context"},
            "coverage": coverage,
            "warnings": self.warnings,
        }
        (self.content / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def rows_table(source: ViewSource) -> str:
    """Table of a view's usable rows; names of views are the user's."""
    return identifier(f"rows_{source.view}")


def _joined(source: ViewSource) -> str:
    """Table of the row that each event sees."""
    return identifier(f"joined_{source.view}")


def _rid(source: ViewSource) -> str:
    """Column with the number of a view's row."""
    return identifier(f"rid_{source.view}")
