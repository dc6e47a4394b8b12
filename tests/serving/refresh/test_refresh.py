"""`rf refresh` on tiny tables: the first bundle, nothing new, new data, a refusal, an interruption, a rollback."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.errors import RunError
from rf_platform.locks import claimed
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
SMALL = (
    "model.dim=8",
    "model.layers=1",
    "model.heads=1",
    "model.max_history=6",
    "train.epochs=1",
    "train.batch_size=8",
)
SETS = tuple(word for change in SMALL for word in ("--set", change))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Settings:
    from rf_platform.features.apply import apply_definitions

    settings = Settings(home=tmp_path_factory.mktemp("refresh") / "home", feature_repo=REPOSITORY)
    write_tables(settings.workspace.tables)
    apply_definitions(settings)
    return settings


@pytest.fixture
def rf(settings: Settings, monkeypatch: pytest.MonkeyPatch, run_command: Any) -> Iterator[Any]:
    """Run ``rf``; returns exit code, standard output and standard error."""
    monkeypatch.setenv("RF_HOME", str(settings.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(REPOSITORY))
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()

    yield run_command
    get_settings.cache_clear()


@pytest.fixture
def refresh(rf: Any) -> Callable[..., tuple[int, dict[str, Any]]]:
    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code, out, err = rf("refresh", "--json", *arguments)
        assert out, err
        return code, json.loads(out)

    return run


def next_day(settings: Settings, number: int) -> None:
    """Every user takes one more item."""
    path = settings.workspace.tables / "interactions.parquet"
    log = pq.read_table(path)
    last = log.group_by("user_id").aggregate([("event_timestamp", "max")]).to_pylist()
    times = [row["event_timestamp_max"] + timedelta(days=1) for row in last]
    rows = {
        "user_id": [row["user_id"] for row in last],
        "item_id": [100 + (row["user_id"] * 7 + number) % 40 for row in last],
        "event_timestamp": pa.array(times, log.schema.field("event_timestamp").type),
        "event_type": ["rating"] * len(last),
        "rating": pa.array([5.0] * len(last), pa.float32()),
        "hour": [time.hour for time in times],
        "weekday": [time.weekday() for time in times],
        "input_order": list(range(len(log), len(log) + len(last))),
    }
    pq.write_table(pa.concat_tables([log, pa.table(rows)]), path)


def steps(outcome: dict[str, Any]) -> list[str]:
    return [each["step"] for each in outcome["steps"]]


def test_nights(rf: Any, refresh: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.of(settings)
    code, out, _ = rf("refresh", "--dry-run")
    assert (code, "train anew by recipe 'default'" in out, registry.datasets()) == (0, True, [])

    # The first night: nothing is served yet.
    code, first = refresh(*SETS)
    assert (code, first["result"], first["bundle"]) == (0, "promoted", "tiny-v1-refresh")
    assert steps(first) == ["materialize", "dataset", "train", "index", "promote"]
    assert first["verdicts"][0]["said"] == "nothing is served yet"

    # Nothing new.
    code, same = refresh()
    assert (code, same["result"], steps(same)) == (0, "unchanged", ["materialize", "dataset"])
    assert "there is nothing new" in same["said"]

    # New data; trained by two processes, interrupted behind that, then gone on with, and refused since nothing is allowed.
    next_day(settings, 1)
    from rf_serving.refresh import nightly

    def killed(*_: Any) -> None:
        raise RunError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(nightly, "compare_with_served", killed)
        code, out, err = rf("refresh", "--margin", "0", "--nproc", "2", "--json", "--set", "train.epochs=2")
        assert (code, out) == (1, ""), err
    trained = registry.run().ended_at
    assert registry.run().config["train"]["epochs"] == 2
    assert json.loads((registry.run().path / "sharding.json").read_text())["processes"] == 2
    code, refused = refresh("--margin", "0")
    assert registry.run().ended_at == trained
    assert registry.run().name == "tiny-v2-refresh"
    assert json.loads((registry.run().path / "run.json").read_text())["from"] == "tiny-v1-refresh"
    found = registry.run().metrics["refresh"]
    assert (found["against"], found["cases"], found["split"]) == ("tiny-v1-refresh", 24, "test")
    change = found["differences"]["ndcg@20"]
    assert change["value"] == pytest.approx(
        found["candidate"]["ndcg@20"]["value"] - found["served"]["ndcg@20"]["value"]
    )
    worse = change["low"] < 0
    assert (code, refused["result"]) == ((3, "refused") if worse else (0, "promoted"))
    active = registry.active_bundle()
    assert active is not None
    if worse:
        assert active.name == "tiny-v1-refresh"
        assert "least allowed" in refused["said"]
        # With another margin the same run is judged again.
        code, ready = refresh("--margin", "1", "--no-promote")
        assert (code, ready["result"], ready["bundle"]) == (0, "ready", "tiny-v2-refresh")
        code, done = refresh("--margin", "1")
        assert (code, done["result"], done["served_before"]) == (0, "promoted", "tiny-v1-refresh")
        assert [each["said"] for each in done["steps"] if each["step"] == "index"] == [
            "'tiny-v2-refresh' was built before"
        ]

    # What was taken back is not promoted again.
    assert rf("rollback")[0] == 0
    code, back = refresh("--margin", "1")
    assert (code, back["result"]) == (0, "unchanged")
    assert "was promoted and taken back" in back["said"]


def log_answer(settings: Settings, occupation: str | None) -> None:
    """Log an answer to a user that no table has; nothing but an occupation, if any, was read."""
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store
    from rf_platform.serving_log import ServingParts, record_schema, value_column

    spec = read_definitions(open_store(settings), settings.feature_service).spec
    record = {
        "request_id": "r",
        "time": datetime.now(UTC),
        "user_id": "999",
        "bundle": "b",
        "path": "quick",
        "spec_hash": spec.hash,
        value_column("user_profile__occupation"): occupation,
    }
    parts = ServingParts(settings.workspace.serving_log)
    parts.remove(parts.parts())
    parts.add(pa.Table.from_pylist([record], record_schema(spec)))


def test_what_was_served_has_to_be_what_training_sees(
    rf: Any, refresh: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.skew.results import SkewResults
    from rf_serving.refresh import nightly

    registry = Registry.of(settings)
    if registry.active_bundle() is None:
        refresh(*SETS)
    next_day(settings, 2)
    datasets = len(registry.datasets())
    assert "replay the last logged requests, and stop" in rf("refresh", "--skew", "refuse", "--dry-run")[1]

    # A value that was never true: refused before anything is imported or trained.
    log_answer(settings, "astronaut")
    code, refused = refresh("--skew", "refuse")
    assert (code, refused["result"], steps(refused)) == (3, "refused", ["skew"])
    assert "user_profile__occupation in 100.0% of 1 requests" in refused["said"]
    assert len(registry.datasets()) == datasets
    assert SkewResults(settings.workspace.skew).newest("replay")[0].report["failed"] == ["user_profile__occupation"]
    assert json.loads(settings.workspace.refresh.read_text())["result"] == "refused"

    # With `warn` it is said. What an interrupted refresh has replayed is not replayed against what it has imported.
    def killed(*_: Any) -> None:
        raise RunError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(nightly, "compare_with_served", killed)
        assert rf("refresh", "--skew", "warn", "--set", "train.epochs=1")[0] == 1
    recorded = json.loads(settings.workspace.refresh.read_text())
    assert (recorded["result"], steps(recorded)) == ("", ["skew", "materialize", "dataset", "train"])
    log_answer(settings, None)
    code, done = refresh("--skew", "warn", "--margin", "1")
    assert (code, done["result"], "skew" in steps(done)) == (0, "promoted", False)
    assert done["verdicts"][0]["gate"] == "skew"
    assert "user_profile__occupation" in done["verdicts"][0]["said"]

    # A refresh that came to a result is over: the next one replays anew, and all is equal now.
    code, same = refresh("--skew", "refuse")
    assert (code, same["result"], steps(same)) == (0, "unchanged", ["skew", "materialize", "dataset"])
    assert "what was served is what training sees" in same["verdicts"][0]["said"]

    # Without a log it is passed, and says why.
    parts = list(settings.workspace.serving_log.iterdir())
    for part in parts:
        part.unlink()
    assert "nothing was replayed" in refresh("--skew", "refuse")[1]["verdicts"][0]["said"]


def test_a_damaged_record_is_named(rf: Any, settings: Settings) -> None:
    if Registry.of(settings).active_bundle() is None:
        rf("refresh", *SETS)
    settings.workspace.refresh.write_text('{"begun": "yesterday"}')
    code, _, err = rf("refresh", "--skew", "warn")
    assert (code, "refresh.json" in err, "remove it" in err) == (1, True, True)
    settings.workspace.refresh.unlink()


def test_one_at_a_time(rf: Any, settings: Settings) -> None:
    with claimed(settings.workspace.root / ".locks" / "refresh") as mine:
        assert mine
        code, _, err = rf("refresh")
    assert code == 1
    assert "another refresh is at work" in err


def test_wrong_options(rf: Any) -> None:
    assert rf("refresh", "--margin", "2")[0] == 2
    assert rf("refresh", "--on-error", "ignore")[0] == 2
