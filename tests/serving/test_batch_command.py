"""`rf batch` against the answers of a running server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.json_format import MessageToJson

from rf_platform.errors import CorruptError
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

OLD = Filter(
    where=[
        Predicate(feature="item_attributes__release_year", operator=Predicate.LESS, value=FeatureValue(int_value=1980))
    ],
    deny_items=["1"],
)


@pytest.fixture
def rf(in_workspace: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any) -> Any:
    """Run an ``rf`` command; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    return run_command


def test_answers_of_all_users_are_those_of_the_server(rf: Any, stub: Any, tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    code, out, err = rf("batch", "--out", str(path), "-k", "12")
    assert code == 0
    assert "the 12 best items of 31 users, 1 of them without a history, by tiny-run-1" in out
    assert "answers of tiny-run-1: 31/31" in err
    table = pq.read_table(path)
    assert table.schema.types == [pa.int64(), pa.list_(pa.int64()), pa.list_(pa.float32()), pa.bool_(), pa.string()]
    assert table["user_id"].to_pylist() == list(range(1, 32))
    for row in table.to_pylist():
        online = stub.Retrieve(RetrieveRequest(user_id=str(row["user_id"]), k=12, exclude_seen=True))
        assert [str(item) for item in row["items"]] == [item.item_id for item in online.items]
        assert row["scores"] == pytest.approx([item.score for item in online.items], abs=1e-5)
        assert (row["cold"], row["error"]) == (online.cold, None)
    metadata = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    assert metadata["rf.bundle"] == "tiny-run-1"
    assert metadata["rf.spec_hash"] == online.spec_hash
    assert (metadata["rf.k"], metadata["rf.exclude_seen"]) == ("12", "true")
    assert [p.name for p in tmp_path.iterdir()] == ["top.parquet"]


@pytest.mark.parametrize("kind", ["text", "parquet"])
def test_some_users_with_a_filter_and_what_they_have_seen(rf: Any, stub: Any, tmp_path: Path, kind: str) -> None:
    path, chosen = tmp_path / "top.parquet", [30, 17, 999, 17]
    users = tmp_path / ("users.txt" if kind == "text" else "users.parquet")
    if kind == "text":
        users.write_text("30\n17\n\n 999\n17")
    else:
        pq.write_table(pa.table({"user_id": pa.array([*chosen, None], pa.int32())}), users)
    (tmp_path / "old.json").write_text(MessageToJson(OLD))
    arguments = [
        "--users",
        str(users),
        "--include-seen",
        "--filter",
        f"@{tmp_path / 'old.json'}",
        "--k",
        "60",
        "--json",
    ]
    code, out, _ = rf("batch", "--out", str(path), *arguments)
    assert code == 0
    assert json.loads(out) == {"out": str(path), "bundle": "tiny-run-1", "users": 4, "cold": 1, "failed": 0}
    rows = pq.read_table(path).to_pylist()
    assert [row["user_id"] for row in rows] == chosen
    for row in rows:
        online = stub.Retrieve(RetrieveRequest(user_id=str(row["user_id"]), k=60, filter=OLD))
        assert [str(item) for item in row["items"]] == [item.item_id for item in online.items]
        assert 0 < len(row["items"]) < 59


def test_parts_of_the_users_are_all_of_them_once(rf: Any, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("".join(f"{user}\n" for user in range(1, 32)))
    found = []
    for part in ("0/2", "1/2"):
        path = tmp_path / "part.parquet"
        assert rf("batch", "--out", str(path), "--users", str(users), "--shard", part, "-k", "3")[0] == 0
        found.append(pq.read_table(path)["user_id"].to_pylist())
    assert min(map(len, found)) > 5
    assert sorted(found[0] + found[1]) == list(range(1, 32))
    for wrong in ("2/2", "1", "0/0", "-1/2", "a/b"):
        code, _, err = rf("batch", "--out", str(tmp_path / "x"), "--shard", wrong)
        assert (code, f"--shard={wrong} is no part" in err) == (2, True)


def test_what_cannot_be_asked_is_said_before_anything_is_done(rf: Any, tmp_path: Path) -> None:
    out = str(tmp_path / "top.parquet")
    (tmp_path / "wrong.txt").write_text("1\nx2\n")
    pq.write_table(pa.table({"user": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"user_id": ["1", "x2"]}), tmp_path / "wrong.parquet")
    (tmp_path / "no.parquet").write_text("no")
    for arguments, message in (
        (["--filter", "{"], "--filter is no JSON of a retrievalformer.v1.Filter"),
        (["--filter", "@nowhere"], "--filter @nowhere: there is no such file"),
        (
            ["--filter", '{"where": [{"feature": "x", "operator": "PRESENT"}]}'],
            "filter.where[0].feature: 'x' is no feature",
        ),
        (["--users", "nowhere"], "--users nowhere is no file"),
        (["--users", str(tmp_path / "wrong.txt")], "wrong.txt, line 2: 'x2' is not an id here"),
        (["--users", str(tmp_path / "wrong.parquet")], "user_id holds values that are no int64 ids"),
        (["--users", str(tmp_path / "other.parquet")], "has no column user_id; it has user"),
        (["--users", str(tmp_path / "no.parquet")], "no.parquet cannot be read"),
        (["--bundle", "nothing"], "nothing"),
    ):
        code, _, err = rf("batch", "--out", out, *arguments)
        assert (code, message in err) == (2, True), err
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "top"))]
    assert rf("batch", "--out", str(tmp_path / "not" / "there.parquet"))[0] == 2


def test_a_user_whose_features_cannot_be_used_has_an_error_and_the_others_their_answers(
    rf: Any, stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extreme number among them is no reason: it counts for as much as any number may."""
    from rf_serving.user_features.features import UserFeatures
    from rf_serving.user_features.fetcher import FeatureFetcher

    decode: Callable[..., UserFeatures] = FeatureFetcher.decode

    def broken(self: FeatureFetcher, user: int, row: Any) -> UserFeatures:
        features = decode(self, user, row)
        if user == 4:
            raise CorruptError("the history of user_id 4 does not fit together")
        if user == 5:
            return UserFeatures(
                items=features.items, context={"interaction_context__ratings": [1e30] * len(features.items)}
            )
        return features

    monkeypatch.setattr(FeatureFetcher, "decode", broken)
    path = tmp_path / "top.parquet"
    code, _, err = rf("batch", "--out", str(path), "-k", "3")
    assert code == 0
    assert "1 users have no answer" in err
    rows = {row["user_id"]: row for row in pq.read_table(path).to_pylist()}
    assert rows[4]["error"] == "the history of user_id 4 does not fit together"
    assert rows[4]["items"] == []
    assert all(len(row["items"]) == 3 and row["error"] is None for user, row in rows.items() if user != 4)


def test_an_interrupted_batch_leaves_the_file_that_was_there(
    rf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_serving.batch import run

    path = tmp_path / "top.parquet"
    path.write_text("before")
    monkeypatch.setattr(run, "AT_ONCE", 8)
    answers = run._answers

    def stops(route: Any, ids: Any, query: Any) -> Any:
        if 20 in ids:
            raise KeyboardInterrupt
        return answers(route, ids, query)

    monkeypatch.setattr(run, "_answers", stops)
    code, _, _ = rf("batch", "--out", str(path))
    assert code != 0
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["top.parquet"]


@pytest.mark.parametrize("suffix", ["txt", "parquet"])
def test_no_users_have_a_file_without_rows(rf: Any, tmp_path: Path, suffix: str) -> None:
    users, out = tmp_path / f"users.{suffix}", tmp_path / "top.parquet"
    if suffix == "parquet":
        pq.write_table(pa.table({"user_id": pa.array([], pa.int64())}), users)
    else:
        users.write_text("\n")
    code, said, _ = rf("batch", "--users", str(users), "--out", str(out))
    assert code == 0
    assert "0 users" in said
    assert pq.read_table(out).column_names == ["user_id", "items", "scores", "cold", "error"]
    assert pq.read_table(out).num_rows == 0


def test_a_store_that_cannot_be_compared_with_the_log_is_said(
    rf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.data.event_log import EventLog

    def existing(_: Any) -> EventLog:
        raise CorruptError("log.db is no database")

    users = tmp_path / "users.txt"
    users.write_text("1\n")
    monkeypatch.setattr(EventLog, "existing", existing)
    code, _, err = rf("batch", "--out", str(tmp_path / "top.parquet"), "--users", str(users))
    assert code == 0
    assert "log.db is no database" in err
    assert "`rf doctor`" in err
