"""The Python API: it answers as the server does, its vectors are the scores, and the examples run."""

import runpy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

import retrievalformer as rf
from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.search.written import predicate_of

EXAMPLES = Path(__file__).parents[2] / "examples"
HISTORY = [3, 17, 42]
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def bundle(home: Path) -> rf.Bundle:
    return rf.load_bundle(home / "bundles" / "tiny-run-1")


def test_it_recommends_what_a_server_does(bundle: rf.Bundle, stub: Any) -> None:
    times = [START + timedelta(hours=n) for n in range(3)]
    events = [rf.Event(item=item, time=time) for item, time in zip(HISTORY, times, strict=True)]
    found = bundle.recommend(events, k=7, where=["item_attributes__release_year>=1970"])
    session = Session(
        history=[
            Interaction(item_id=str(each.item), timestamp_us=int(each.time.timestamp() * 1e6))
            for each in events
            if each.time
        ]
    )
    condition = Filter(where=[predicate_of("item_attributes__release_year>=1970", "--where")])
    reply = stub.Retrieve(RetrieveRequest(session=session, k=7, exclude_seen=True, filter=condition))
    assert [str(each.item) for each in found] == [each.item_id for each in reply.items]
    np.testing.assert_allclose([each.score for each in found], [each.score for each in reply.items], atol=1e-6)
    assert not {each.item for each in found} & set(HISTORY)
    assert all(each.features["item_attributes__release_year"] >= 1970 for each in found)
    assert found[0].features["item_attributes__title"] == f"Movie {found[0].item}"


def test_vectors_are_the_scores(bundle: rf.Bundle, tmp_path: Path) -> None:
    best = bundle.recommend(HISTORY, k=60, exclude_seen=False)
    (query,) = bundle.user_vectors([HISTORY])
    scores = dict(zip(bundle.item_ids, (bundle.item_vectors @ query).tolist(), strict=True))
    assert {each.item: pytest.approx(each.score, abs=1e-5) for each in best} == scores
    assert bundle.export_item_vectors(tmp_path / "items.parquet") == 60
    written = pq.read_table(tmp_path / "items.parquet")
    assert written["item_id"].to_pylist() == list(bundle.item_ids)
    np.testing.assert_array_equal(np.array(written["vector"].to_pylist(), np.float32), bundle.item_vectors)


def test_users_vectors_are_those_that_a_server_searches_with(
    settings: Settings, bundle: rf.Bundle, stub: Any, tmp_path: Path
) -> None:
    workspace = rf.Workspace(settings.home, feature_repo=settings.feature_repo)
    assert workspace.export_user_vectors(tmp_path / "users.parquet") == 31
    written = pq.read_table(tmp_path / "users.parquet")
    query = np.array(written["vector"].to_pylist()[16], np.float32)
    assert written["user_id"].to_pylist()[16] == 17
    reply = stub.Retrieve(RetrieveRequest(user_id="17", k=5))
    best = np.argsort(-(bundle.item_vectors @ query))[:5]
    assert [str(bundle.item_ids[row]) for row in best] == [each.item_id for each in reply.items]


def test_the_command_writes_the_same_vectors(
    in_workspace: Path, bundle: rf.Bundle, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    items, users, chosen = (tmp_path / name for name in ("items.parquet", "users.parquet", "users.txt"))
    chosen.write_text("17\n30\n")
    code, out, _ = run_command("vectors", "export", "--items", str(items), "--users", str(users), "--only", str(chosen))
    assert (code, out) == (
        0,
        f"{items}: vectors of 60 items by tiny-run-1\n{users}: vectors of 2 users by tiny-run-1\n",
    )
    bundle.export_item_vectors(tmp_path / "same.parquet")
    assert pq.read_table(items).equals(pq.read_table(tmp_path / "same.parquet"))
    rf.Workspace(in_workspace).export_user_vectors(tmp_path / "all.parquet")
    assert pq.read_table(users).to_pylist() == pq.read_table(tmp_path / "all.parquet").take([16, 29]).to_pylist()
    assert run_command("vectors", "export", "--only", str(chosen), "--items", str(items))[0] == 2
    assert "nothing is asked for" in run_command("vectors", "export")[2]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"history": ["x"]}, r"session\.history\[0\]\.item_id: 'x'"),
        ({"history": [1, 9999], "strict": True}, r"session\.history\[1\]\.item_id: '9999' is not an item"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"profile": {"gender": "M"}}, r"session\.profile"),
        ({"history": [rf.Event(item=1, time=datetime(2024, 1, 1))]}, r"history\[0\]\.time: .* has no time zone"),
        ({"where": ["no_such_field=1"]}, "no_such_field"),
    ],
)
def test_wrong_fields_are_named(bundle: rf.Bundle, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.UsageError, match=message):
        bundle.recommend(**asked)


def test_a_bundle_that_does_not_fit_is_not_promoted(settings: Settings, home_copy: Path) -> None:
    workspace = rf.Workspace(home_copy, feature_repo=settings.feature_repo, feature_service="of_another_shop")
    before = Registry.of(workspace.settings).deployments()
    with pytest.raises(rf.RfError, match="of_another_shop"):
        workspace.promote("tiny-run-1")
    assert Registry.of(workspace.settings).deployments() == before


def test_histories_are_what_the_dataset_has(dataset: Dataset) -> None:
    train = rf.HistoryDataset(dataset, max_history=5)
    log, seen = dataset.sequences, []
    for batch in DataLoader(train, batch_size=4, collate_fn=rf.collate_histories):
        for user, items, targets, length in zip(batch.user, batch.items, batch.targets, batch.lengths, strict=True):
            assert (items[length:] == 0).all()
            assert (targets[length:] == -100).all()
            known = targets[: length - 1] > 0
            assert (targets[: length - 1][known] == items[1:length][known]).all()
            seen += [(int(user), int(each)) for each in targets if each > 0]
    wanted = []
    for user in range(len(log.offsets) - 1):
        own = slice(int(log.offsets[user]), int(log.offsets[user + 1]))
        trained = np.asarray(log.item[own])[np.asarray(log.split[own]) == 0]
        wanted += [(user, int(item) + 1) for item in trained[1:]]
    assert sorted(seen) == sorted(wanted)
    held_out = rf.HistoryDataset(dataset, "test", max_history=5)
    last = held_out[len(held_out) - 1]
    whole = np.asarray(log.item[: int(log.offsets[last.user + 1])])
    assert (last.items.tolist(), int(last.targets[-1])) == ((whole[-6:-1] + 1).tolist(), int(whole[-1]) + 1)


def test_any_scorer_is_evaluated(dataset: Dataset) -> None:
    class Oracle:
        name = "oracle"

        def scores(self, users: Any, histories: Any) -> Any:
            scores = np.zeros((len(users), dataset.n_items), np.float32)
            ends = np.asarray(dataset.sequences.offsets)[users] + histories.lengths
            scores[np.arange(len(users)), dataset.sequences.item[ends]] = 1
            return scores

    assert rf.evaluate(Oracle(), dataset, "test")["recall@5"] > 0.9  # not 1: a few targets were seen before


@pytest.fixture(scope="module")
def examples(
    home: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Iterator[Path]:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("examples")
    workspace = copy_workspace(home, out / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RF_HOME": workspace, "EPOCHS": 1, "TRIALS": 2, "OUT": out}.items():
            patch.setenv(name, str(value))
        patch.syspath_prepend(str(EXAMPLES))
        get_settings.cache_clear()
        yield out
    get_settings.cache_clear()


def test_example_of_a_loss(examples: Path) -> None:
    found = runpy.run_path(str(EXAMPLES / "own_loss.py"))["main"]()
    assert set(found) == {"softmax", "bpr"}
    assert found["softmax"] != found["bpr"]


def test_example_of_an_encoder(examples: Path, start_server: Callable[..., Any]) -> None:
    best = runpy.run_path(str(EXAMPLES / "own_encoder.py"))["main"]()
    assert len(best) == 5
    bundle = next((examples / "home" / "bundles").glob("default-1-*"))
    settings = Settings(home=examples / "home")
    session = Session(history=[Interaction(item_id=str(item)) for item in rf.load_bundle(bundle).item_ids[:2]])
    with start_server(settings, bundle=bundle.name) as running:
        reply = running.stub.Retrieve(RetrieveRequest(session=session, k=5, exclude_seen=True))
    assert [each.item_id for each in reply.items] == [str(each.item) for each in best]


def test_example_of_a_search(examples: Path) -> None:
    study = runpy.run_path(str(EXAMPLES / "optuna_search.py"))["main"]()
    assert len(study.trials) == 2


def test_tutorial(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "tutorial.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "60 vectors in" in said
    assert pq.read_metadata(examples / "items.parquet").num_rows == 60
