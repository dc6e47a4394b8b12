import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="session")
def logged(settings: Settings, home: Path, start_server: Callable[..., Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Answers of a server that logs all, by request id, and their records."""
    shutil.rmtree(settings.workspace.serving_log, ignore_errors=True)
    session = Session(session_id="visitor", history=[Interaction(item_id="5"), Interaction(item_id="9")])
    requests = {
        "quick": RetrieveRequest(user_id="17", k=5),
        "seen": RetrieveRequest(user_id="30", k=3, exclude_seen=True),
        "unknown": RetrieveRequest(user_id="999", k=4),
        "session": RetrieveRequest(session=session, k=4),
        "full": RetrieveRequest(user_id="17", k=5, explain=True),
    }
    answers = {}
    with start_server(settings.model_copy(update={"log_share": 1.0})) as running:
        for name, request in requests.items():
            answers[name] = running.stub.Retrieve(request, metadata=[("x-request-id", name)])
    records: dict[str, Any] = {}
    for part in ServingParts(settings.workspace.serving_log).parts():
        records |= {row["request_id"]: row for row in pq.read_table(part.path).to_pylist()}
    yield answers, records
    shutil.rmtree(settings.workspace.serving_log, ignore_errors=True)


@pytest.mark.both_fronts
def test_a_record_says_what_the_reply_said(logged: Any) -> None:
    answers, records = logged
    assert set(records) == set(answers)
    for name, answer in answers.items():
        record = records[name]
        assert [(each["item_id"], each["score"]) for each in record["items"]] == [
            (each.item_id, pytest.approx(each.score)) for each in answer.items
        ]
        assert [each["place"] for each in record["items"]] == list(range(1, len(answer.items) + 1))
        assert record["bundle"] == answer.bundle
        assert record["spec_hash"] == answer.spec_hash
        assert record["cold"] == answer.cold
        assert abs(datetime.now(UTC) - record["time"]) < 600 * SECOND
    assert records["full"]["path"] == "full"
    assert {record["path"] for record in records.values()} <= {"quick", "full"}  # a slow machine takes the full path
    assert records["session"]["session_id"] == "visitor"
    assert records["session"]["user_id"] is None
    assert records["quick"]["user_id"] == "17"


def test_a_record_has_the_features_as_they_were_read(logged: Any, tables: Path) -> None:
    _, records = logged
    log = pq.read_table(tables / "interactions.parquet").to_pylist()
    own = sorted(
        (row for row in log if row["user_id"] == 17), key=lambda row: (row["event_timestamp"], row["input_order"])
    )
    person = next(row for row in pq.read_table(tables / "users.parquet").to_pylist() if row["user_id"] == 17)
    for name in ("quick", "full"):
        record = records[name]
        assert record["value.user_profile__occupation"] == person["occupation"]
        assert record["value.interaction_context__item_ids"] == [row["item_id"] for row in own]
        seconds = [row["event_timestamp"].replace(microsecond=0) for row in own]
        assert record["value.interaction_context__timestamps"] == seconds
        assert record["moment.interaction_context"] == own[-1]["event_timestamp"].replace(microsecond=0)
        assert record["moment.user_profile"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert records["unknown"]["moment.user_profile"] is None
    assert records["session"]["value.interaction_context__item_ids"] == [5, 9]


def test_nothing_is_read_or_written_without_a_share(server: Any, settings: Settings) -> None:
    server.stub.Retrieve(RetrieveRequest(user_id="17", k=5))
    recorder = server.parts.recorder
    assert recorder._thread is None
    features = server.retriever.routing.active.fetcher.fetch(17)
    assert features.moments is None


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    from rf_serving.serving_log import LogOptions, Recorder

    registry = CollectorRegistry()
    recorder = Recorder(ServingParts(tmp_path / "log"), LogOptions(share=1, waiting=0), registry)
    recorder.offer(object())  # type: ignore[arg-type]
    recorder.close()
    assert registry.get_sample_value("rf_logged_answers_total", {"outcome": "DROPPED"}) == 1


@pytest.mark.parametrize("broken", ["parts", "forgotten", "retention"])
def test_a_directory_that_cannot_be_used_fails_no_request(
    settings: Settings, tmp_path: Path, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Nor does it end the thread that writes."""

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("the disk is full")

    with start_server(settings.model_copy(update={"log_share": 1.0})) as running:
        recorder = running.parts.recorder
        recorder._parts = ServingParts(tmp_path)  # other tests count the records of the workspace
        if broken == "forgotten":
            monkeypatch.setattr(recorder, "_forgotten", fails)
        else:
            monkeypatch.setattr(ServingParts, "add" if broken == "parts" else "expired", fails)
        recorder._cleaned = float("-inf")
        assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=5)).items
        recorder.close()
        value = running.metrics.registry.get_sample_value("rf_logged_answers_total", {"outcome": "FAILED"})
    assert value == (0 if broken == "retention" else 1)
    assert recorder._told  # what is wrong, by a thread that went on


def test_everything_is_logged_while_a_challenger_has_users(server: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from rf_serving.serving_log import LogOptions, Recorder

    recorder = Recorder(ServingParts(tmp_path), LogOptions(), CollectorRegistry())
    routing = server.retriever.routing
    assert not recorder.wants(routing)
    assert recorder.wants(replace(routing, challenger=routing.active, percent=10.0))


def test_served_features_of_a_server_are_what_training_sees(
    logged: Any, settings: Settings, in_workspace: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    import json

    code, out, err = run_command("skew", "replay", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["requests"], report["sessions"]) == (4, 1)
    assert {name for field in report["fields"] for name, count in field["counts"].items() if count} == {"equal"}


def test_a_promotion_is_refused_where_served_and_trained_differ(
    logged: Any, settings: Settings, in_workspace: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    from rf_platform.errors import RunError
    from rf_platform.skew.gate import check_skew

    parts = ServingParts(settings.workspace.serving_log)
    first = parts.parts()[0]
    kept = first.path.read_bytes()
    table = pq.read_table(first.path)
    name = "value.user_profile__occupation"
    wrong = pa.array(["astronaut"] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, wrong), first.path)
    try:
        assert "user_profile__occupation" in check_skew(settings, "warn")[0]
        with pytest.raises(RunError, match="user_profile__occupation"):
            check_skew(settings, "refuse")
        code, _, err = run_command("promote", "tiny-run-1", "--skew", "refuse")
        assert code == 1
        assert "RF_SKEW_ALLOW" in err
        accepted = settings.model_copy(update={"skew_allow": "user_profile__occupation=1"})
        assert "is what training sees" in check_skew(accepted, "refuse")[0]
    finally:
        first.path.write_bytes(kept)
    assert check_skew(settings, "off") == []
