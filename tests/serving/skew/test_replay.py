"""Faults planted in a workspace, each named as what it is."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.features.read import FeatureDefinitions, read_definitions
from rf_platform.features.store import open_store
from rf_platform.serving_log import ServingParts, moment_column, record_schema, value_column
from rf_platform.settings import Settings
from rf_platform.skew import FieldReport, ReplayOptions, ReplayReport, replay
from rf_platform.skew.encoders import EncoderPair

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)
ITEMS, HISTORY = "interaction_context__item_ids", "interaction_context"
Plant = Callable[[list[dict[str, Any]]], None]


class World:
    """A workspace whose users change their occupation, with requests that were answered without a fault."""

    def __init__(self, home: Path, definitions: FeatureDefinitions) -> None:
        self.settings, self.definitions = Settings(home=home), definitions
        self.spec = definitions.spec
        self.users = pq.read_table(home / "tables" / "users.parquet").to_pylist()
        log = pq.read_table(home / "tables" / "interactions.parquet").to_pylist()
        self.log = sorted(log, key=lambda row: (row["user_id"], row["event_timestamp"], row["input_order"]))

    def served(self, user: int, at: datetime) -> dict[str, Any]:
        """Return the record of a request whose features are right at its moment."""
        rows = [row for row in self.users if row["user_id"] == user and row["event_timestamp"] < at]
        held = max(rows, key=lambda row: row["event_timestamp"])
        events = [row for row in self.log if row["user_id"] == user and row["event_timestamp"] < at][-50:]
        columns = {"item_ids": "item_id", "timestamps": "event_timestamp", "event_types": "event_type"}
        columns |= {"ratings": "rating", "hours": "hour", "weekdays": "weekday"}
        missing = {"ratings": float("nan"), "hours": -(2**31)}
        history = {
            value_column(f"{HISTORY}__{name}"): [missing.get(name) if e[of] is None else e[of] for e in events]
            for name, of in columns.items()
        }
        history[value_column(f"{HISTORY}__timestamps")] = [e["event_timestamp"].replace(microsecond=0) for e in events]
        profile = {value_column(f.name): held[f.field] for f in self.spec.inputs("user")}
        return {
            "request_id": f"r{user}",
            "time": at,
            "user_id": str(user),
            "bundle": "b",
            "path": "quick",
            "spec_hash": self.spec.hash,
            **profile,
            **history,
            moment_column("user_profile"): held["event_timestamp"],
            moment_column(HISTORY): events[-1]["event_timestamp"] if events else None,
        }

    def replayed(self, plant: Plant = lambda records: None, **options: Any) -> ReplayReport:
        """Log the requests with a fault in them, and replay them."""
        parts = ServingParts(self.settings.workspace.serving_log)
        parts.remove(parts.parts())
        records = [self.served(user, NOW - HOUR) for user in range(11, 31)]
        plant(records)
        schema = record_schema(self.spec)
        more = sorted({name for r in records for name in r} - set(schema.names))
        for name in more:
            schema = schema.append(pa.field(name, pa.string()))
        parts.add(pa.Table.from_pylist(records, schema))
        encoders = options.pop("encoders", {})
        return replay(self.settings, self.definitions, encoders, ReplayOptions(**options))


@pytest.fixture(scope="module")
def world(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> World:
    home = tmp_path_factory.mktemp("skew")
    copy_workspace(settings.workspace.tables, home / "tables")
    definitions = read_definitions(open_store(settings), settings.feature_service)
    table = pq.read_table(home / "tables" / "users.parquet")
    rows = table.to_pylist()
    for row in list(rows):  # a day ago everybody took another job, and in an hour they will again
        rows.append({**row, "occupation": "pilot", "event_timestamp": NOW - 24 * HOUR})
        rows.append({**row, "occupation": "judge", "event_timestamp": NOW + HOUR})
    pq.write_table(pa.Table.from_pylist(rows, table.schema), home / "tables" / "users.parquet")
    here = str(settings.workspace.tables)
    sources = tuple(
        type(s)(**{**vars(s), "path": s.path.replace(here, str(home / "tables"))}) for s in definitions.sources
    )
    return World(home, FeatureDefinitions(spec=definitions.spec, sources=sources))


def of(report: ReplayReport, name: str) -> FieldReport:
    return next(each for each in report.fields if each.field == name)


def statuses(report: FieldReport) -> dict[str, int]:
    return {status: count for status, count in report.counts.items() if count}


JOB = "user_profile__occupation"


def test_what_was_served_right_is_equal(world: World) -> None:
    report = world.replayed()
    assert report.requests == 20
    assert {each.field: statuses(each) for each in report.fields} == {
        each.field: {"equal": 20} for each in report.fields
    }
    assert len(report.fields) == len(world.spec.inputs("user")) + len(world.spec.history) + 1
    assert not report.failed


def test_a_late_materialisation_is_stale_since_the_row_that_is_lacking(world: World) -> None:
    def late(records: list[dict[str, Any]]) -> None:
        old = [world.served(int(r["user_id"]), NOW - 30 * HOUR) for r in records]
        for record, before in zip(records, old, strict=True):
            for name in (value_column(JOB), moment_column("user_profile")):
                record[name] = before[name]

    report = world.replayed(late)
    field = of(report, JOB)
    assert statuses(field) == {"stale": 20}
    assert field.median_seconds == 23 * 3600  # from 24 hours ago until the request, an hour ago
    assert field.cause == "late materialisation"
    assert {each.field for each in report.failed} == {JOB, "user_profile (event timestamp)"}
    assert not world.replayed(late, grace_seconds=24 * 3600).failed
    assert not world.replayed(late, allowed=1.0).failed


def test_a_value_of_later_is_early(world: World) -> None:
    def leak(records: list[dict[str, Any]]) -> None:
        for record in records[:5]:
            record[value_column(JOB)] = "judge"

    field = of(world.replayed(leak, grace_seconds=1e9), JOB)
    assert statuses(field) == {"equal": 15, "early": 5}
    assert field.most_seconds == 2 * 3600
    assert field.cause == "value from the future"


def test_a_wrong_time_zone_shifts_all_times_alike(world: World) -> None:
    def zone(records: list[dict[str, Any]]) -> None:
        for record in records:
            record[moment_column("user_profile")] += 2 * HOUR
            name = value_column(f"{HISTORY}__timestamps")
            record[name] = [moment + 2 * HOUR for moment in record[name]]

    report = world.replayed(zone)
    failed = {each.field: each.cause for each in report.failed}
    assert failed == {
        "user_profile (event timestamp)": "wrong time zone",
        f"{HISTORY}__timestamps": "wrong time zone",
    }


def test_a_value_overwritten_in_the_store_was_never_true(world: World) -> None:
    def overwrite(records: list[dict[str, Any]]) -> None:
        records[3][value_column(JOB)] = "astronaut"

    field = of(world.replayed(overwrite), JOB)
    assert statuses(field) == {"equal": 19, "never true": 1}
    assert field.cause.startswith("overwritten in the store")
    assert field.examples[0].served == "'astronaut'"
    assert field.examples[0].truth == "'pilot'"
    assert field.share == pytest.approx(0.05)


def test_a_missing_value_says_since_when_there_is_one(world: World) -> None:
    def lose(records: list[dict[str, Any]]) -> None:
        records[0][value_column(JOB)] = None

    field = of(world.replayed(lose), JOB)
    assert statuses(field) == {"equal": 19, "missing": 1}
    assert field.examples[0].seconds == 23 * 3600


@pytest.mark.parametrize("kept", [slice(None, -1), slice(1, None)], ids=["without the newest", "one too short"])
def test_an_off_by_one_history_is_none_that_is_late(world: World, kept: slice) -> None:
    def off_by_one(records: list[dict[str, Any]]) -> None:
        for record in records:
            for name in [n for n in record if n.startswith(value_column(f"{HISTORY}__"))]:
                record[name] = record[name][kept]

    report = world.replayed(off_by_one)
    assert of(report, ITEMS).cause == "off-by-one history"
    assert of(report, ITEMS).share == 1


def test_a_history_that_waits_for_its_events_is_late(world: World) -> None:
    def behind(records: list[dict[str, Any]]) -> None:
        for record in records:
            for name in [n for n in record if n.startswith(value_column(f"{HISTORY}__"))]:
                record[name] = record[name][:-1]
            record[moment_column(HISTORY)] = record[value_column(f"{HISTORY}__timestamps")][-1]

    field = of(world.replayed(behind), ITEMS)
    assert statuses(field) == {"stale": 20}
    assert field.cause == "late materialisation"


def test_a_changed_encoder_makes_other_inputs_of_equal_values(world: World, dataset: Any) -> None:
    name, encoder = "user_profile__gender", dataset.encoder
    domain = str(encoder.spec.field(name).domain)
    vocabulary = encoder.vocabularies[domain]
    backwards = pa.array(vocabulary.values.to_pylist()[::-1])
    changed = replace(
        encoder,
        vocabularies={**encoder.vocabularies, domain: replace(vocabulary, values=backwards)},
    )
    assert len(backwards) == 2
    report = world.replayed(encoders={"b": EncoderPair(changed, encoder)})
    assert {each.field: each.cause for each in report.failed} == {name: "changed encoder"}
    assert statuses(of(report, name)) == {"encoded differently": 20}


def test_a_renamed_column_is_named_with_what_it_may_be_now(world: World) -> None:
    def rename(records: list[dict[str, Any]]) -> None:
        for record in records:
            record[value_column("user_profile__ocupation")] = record[value_column(JOB)]

    field = of(world.replayed(rename), "user_profile__ocupation")
    assert field.cause == "renamed column"
    assert JOB in field.detail
    assert field.share == 1
