"""Distances by hand, their limits, and what monitors say of a log with and without a shift."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.serving_log import ServingParts, moment_column, record_schema, value_column
from rf_platform.skew.distances import Bins, Sample, jensen_shannon, limits, psi, unknown_limit
from rf_platform.skew.monitors import MonitorReport, monitor, prometheus

JOB = "user_profile__occupation"


def test_distances_by_hand() -> None:
    a, b = np.array([10.0, 0.0]), np.array([0.0, 10.0])
    assert jensen_shannon(a, a) == 0
    assert jensen_shannon(a, b) == pytest.approx(1)
    assert psi(a, a) == 0
    share = 10.5 / 11
    assert psi(a, b) == pytest.approx(2 * (2 * share - 1) * np.log(share / (1 - share)))


def test_bins_are_those_of_the_training_split() -> None:
    numbers = Bins.of(Sample(range(100), [float(n) for n in range(100)]), numeric=True)
    counts = numbers.by_user(Sample([0, 0, 1], [-1e9, 1e9, None]))
    assert counts.shape == (2, 11)
    assert (counts[0, 0], counts[0, 9], counts[1, 10]) == (1, 1, 1)
    values = Bins.of(Sample(range(3), ["a", "b", "a"]), numeric=False)
    assert values.codes(["a", "b", "new", None]).tolist() == [0, 1, 2, 3]
    lists = values.by_user(Sample([0, 1], [["a", "b"], []]))
    assert lists.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 1]]


def test_samples_of_the_training_split_stay_within_the_limit_99_times_in_100() -> None:
    random = np.random.default_rng(3)
    by_user = random.multinomial(5, [0.5, 0.3, 0.2], size=400).astype(float)
    most_psi, most_js = limits(by_user, 60, random)
    drawn = [by_user[random.integers(400, size=60)].sum(axis=0) for _ in range(1000)]
    total = by_user.sum(axis=0)
    assert 0.97 < np.mean([psi(each, total) <= most_psi for each in drawn]) <= 1
    assert 0.97 < np.mean([jensen_shannon(each, total) <= most_js for each in drawn]) <= 1
    assert psi(np.array([100.0, 100, 100]), total) > most_psi


def test_the_limit_of_unknown_values_is_what_other_users_do_not_have() -> None:
    random = np.random.default_rng(0)
    assert unknown_limit(Sample(range(200), ["a"] * 200), random) == 0
    assert unknown_limit(Sample(range(200), [f"own {n}" for n in range(200)]), random) == 1


@pytest.fixture(scope="module")
def people(tables: Path) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(tables / "users.parquet").to_pylist() if row["user_id"] <= 30]


def measured(
    directory: Path, dataset: Any, people: list[dict[str, Any]], *, past: int = 0, **changed: Any
) -> MonitorReport:
    """Return what monitors say of requests of all users, in proportion to their training events.

    ``past`` earlier days had the same requests, without what is ``changed``, and other items, ages and scores by chance.
    """
    random = np.random.default_rng(5)
    spec, now = dataset.spec, datetime.now(UTC)
    counts = dict(zip(dataset.user_ids.tolist(), dataset.training_counts.of_user.tolist(), strict=True))
    rows = []
    for person in people:
        values = {value_column(f.name): person[f.field] for f in spec.inputs("user")}
        row = {
            "request_id": "r",
            "time": now,
            "user_id": str(person["user_id"]),
            "spec_hash": spec.hash,
            "cold": False,
            moment_column("user_profile"): now - timedelta(hours=2),
            "items": [{"item_id": "1", "score": 0.5, "place": 1, "source": "model", "propensity": 0.0}],
            **values,
        }
        rows += [row] * counts.get(person["user_id"], 0)

    def of_day(row: dict[str, Any], days: int) -> dict[str, Any]:
        at = now - timedelta(days=days, hours=float(random.uniform(0.1, 23)))
        moment = at - timedelta(hours=float(random.uniform(1, 3)))
        items = [
            {"item_id": str(item), "score": float(random.normal(0.5, 0.1)), "place": place}
            for place, item in enumerate(random.integers(1, 60, 3).tolist(), 1)
        ]
        return {**row, "time": at, moment_column("user_profile"): moment, "items": items}

    parts = ServingParts(directory)
    rows = [of_day(row, 0) for row in rows] if past else rows
    earlier = [of_day(row, days) for days in range(1, past + 1) for row in rows]
    parts.add(pa.Table.from_pylist([*earlier, *({**row, **changed} for row in rows)], record_schema(spec)))
    return monitor(parts, dataset, None)


def test_requests_like_the_training_split_are_within_all_limits(tmp_path: Path, dataset: Any, people: Any) -> None:
    report = measured(tmp_path, dataset, people)
    of_user = [g for g in report.gauges if str(g.labels.get("field", "")).startswith("user_profile")]
    assert len(of_user) >= 12
    assert [(g.name, g.labels) for g in of_user if g.over] == []
    ages = {g.labels["quantile"]: g.value for g in report.gauges if g.name == "age_seconds"}
    assert ages["0.5"] == pytest.approx(7200)
    coverage = next(g.value for g in report.gauges if g.name == "item_coverage")
    assert coverage == pytest.approx(1 / 60)


def test_a_shift_is_over_in_its_field_alone(tmp_path: Path, dataset: Any, people: Any) -> None:
    report = measured(tmp_path, dataset, people, past=0, **{value_column(JOB): "astronaut"})
    over = {(g.name, g.labels["field"]) for g in report.over if g.labels["field"].startswith("user_profile")}
    assert over == {("psi", JOB), ("jensen_shannon", JOB), ("unknown_share", JOB)}
    gone = measured(tmp_path / "gone", dataset, people, past=0, **{value_column(JOB): None})
    assert ("missing_share", JOB) in {(g.name, g.labels["field"]) for g in gone.over}


def test_ages_and_items_have_limits_from_the_log_before(tmp_path: Path, dataset: Any, people: Any) -> None:
    def answer_gauges(report: MonitorReport) -> dict[str, Any]:
        return {g.name + g.labels.get("quantile", ""): g for g in report.gauges if "field" not in g.labels}

    names = ("score_mean", "score_deviation", "popular_share", "item_coverage", "cold_answers_share")
    alone = answer_gauges(measured(tmp_path / "alone", dataset, people))
    assert {alone[name].limit for name in (*names, "age_seconds0.5")} == {None}

    alike = answer_gauges(measured(tmp_path / "alike", dataset, people, past=3))
    assert [name for name, gauge in alike.items() if gauge.over] == []
    assert alike["item_coverage"].least is not None
    assert alike["score_mean"].least < alike["score_mean"].value < alike["score_mean"].limit
    assert alike["age_seconds0.5"].limit == pytest.approx(7200, rel=0.3)

    now = datetime.now(UTC)
    one_item = [{"item_id": "1", "score": 0.9, "place": 1}]
    other = measured(
        tmp_path / "other",
        dataset,
        people,
        past=3,
        items=one_item,
        cold=True,
        time=now,
        **{moment_column("user_profile"): now - timedelta(hours=9)},
    )
    over = {name for name, gauge in answer_gauges(other).items() if gauge.over}
    assert {"score_mean", "score_deviation", "item_coverage", "cold_answers_share"} < over
    assert {"age_seconds0.5", "age_seconds0.99"} < over


def test_a_view_that_never_changes_only_grows_older(tmp_path: Path, dataset: Any, people: Any) -> None:
    from rf_platform.skew.answers import AGE, Answers, Figure, past_limits

    moment = datetime(2024, 1, 1, tzinfo=UTC)
    rows = {
        "user_id": [str(n) for n in range(200)],
        "session_id": pa.nulls(200, pa.string()),
        "items": pa.array([[{"item_id": "1", "score": 0.5}]] * 200),
        "cold": [False] * 200,
    }

    def stretch(day: int, written: datetime) -> Answers:
        time = pa.array([datetime(2024, 2, day, tzinfo=UTC)] * 200, pa.timestamp("us", tz="UTC"))
        read = pa.array([written] * 200, pa.timestamp("us", tz="UTC"))
        return Answers.of(pa.table({**rows, "time": time, moment_column("v"): read}), ["v"], ["1"], 10)

    random = np.random.default_rng(0)
    still = past_limits(stretch(9, moment), [stretch(8, moment), stretch(7, moment)], random)
    assert Figure(AGE, "v", 0.5) not in still
    moved = past_limits(stretch(9, moment), [stretch(8, moment), stretch(7, moment - timedelta(days=1))], random)
    most = moved[Figure(AGE, "v", 0.5)].most
    assert most is not None
    assert stretch(9, moment).figures()[Figure(AGE, "v", 0.5)] > most


def test_prometheus_reads_the_figures(tmp_path: Path, dataset: Any, people: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    report = measured(tmp_path, dataset, people)
    families = {each.name: each for each in text_string_to_metric_families(prometheus(report))}
    assert {f"rf_skew_{g.name}" for g in report.gauges} <= set(families)
    assert len(families["rf_skew_psi"].samples) == sum(g.name == "psi" for g in report.gauges)


def test_alert_rules_name_metrics_that_exist(tmp_path: Path, dataset: Any, people: Any) -> None:
    import re

    import yaml
    from prometheus_client import CollectorRegistry, generate_latest

    from rf_serving.serving_log.metrics import LogMetrics

    rules = yaml.safe_load((Path(__file__).parents[3] / "infra" / "alerts" / "skew.yml").read_text())
    registry = CollectorRegistry()
    LogMetrics(registry)
    there = prometheus(measured(tmp_path, dataset, people, past=2)) + generate_latest(registry).decode()
    names = [
        name for group in rules["groups"] for rule in group["rules"] for name in re.findall(r"rf_\w+", rule["expr"])
    ]
    assert len(names) > 5
    assert [name for name in names if not re.search(rf"^{name}\b", there, re.MULTILINE)] == []
