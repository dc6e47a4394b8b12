"""Re-ranking over gRPC: what requests and deployments ask for, and bundles that come and go."""

import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import torch

from rf_platform.registry import promote
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.retrieval_pb2 import (
    RERANK_EXACT,
    RERANK_LIME,
    RERANK_NONE,
    RERANK_UNSPECIFIED,
    Interaction,
    RetrieveRequest,
    RetrieveResponse,
    Session,
)
from rf_serving.ranking.policy import RerankPolicy

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry
    from rf_training.model.retrievalformer import RetrievalFormer
    from rf_training.rerank.ranker import Ranker

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
PLAIN, RANKED = "tiny-run-1", "tiny-run-2"
HISTORY = ("5", "17", "3", "44", "21", "9")
DIGITS = 0.05
"""Of scores up to 50, computed from numbers of which float16 keeps three."""


@pytest.fixture(scope="module")
def ranking(ranked_home: Path, start_server: Callable[..., Any]) -> Iterator[Any]:
    """A server on the bundle with the re-ranker."""
    with start_server(Settings(home=ranked_home, feature_repo=REPOSITORY), bundle=RANKED) as running:
        yield running


def ids(response: RetrieveResponse) -> list[str]:
    return [item.item_id for item in response.items]


def session(**fields: Any) -> RetrieveRequest:
    return RetrieveRequest(session=Session(history=[Interaction(item_id=item) for item in HISTORY]), **fields)


def wait_for(running: Any, bundle: str) -> None:
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + 60
    while stub.GetDeployment(GetDeploymentRequest()).active.name != bundle:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("candidates", [60, 20])
def test_every_user_gets_the_order_of_the_offline_computation(
    ranked_home: Path,
    start_server: Callable[..., Any],
    dataset: "Dataset",
    model: "RetrievalFormer",
    random_ranker: Callable[..., "Ranker"],
    candidates: int,
) -> None:
    """By the code that evaluates re-rankers, for all users with their whole histories."""
    from rf_training.evaluation.sequences import Jagged
    from rf_training.rerank.cases import find_candidates
    from rf_training.rerank.scoring import item_states, score_candidates
    from rf_training.rerank.towers import Positions, Towers

    towers, ranker = Towers(model, dataset), random_ranker()
    offsets = np.asarray(dataset.sequences.offsets)
    users = np.arange(len(dataset.user_ids))[np.diff(offsets) > 0]
    encoded = towers.encode(Positions(users, np.diff(offsets)[users]))
    values = np.concatenate([np.asarray(dataset.sequences.item[offsets[u] : offsets[u + 1]]) for u in users])
    seen = Jagged(values, np.concatenate([[0], np.cumsum(np.diff(offsets)[users])]))
    found = find_candidates(encoded.query_PQ, towers.vectors_NQ, seen, candidates)
    scores = score_candidates(ranker, item_states(ranker, towers.unit_ND), encoded, found.item_PK, found.dot_PK)
    settings = Settings(home=ranked_home, feature_repo=REPOSITORY, rerank_candidates=candidates)
    compared = 0
    with start_server(settings, bundle=RANKED) as running:
        for place, user in enumerate(users.tolist()):
            there = found.dot_PK[place] > -torch.inf
            score_K, item_K = scores[place][there].numpy(), found.item_PK[place][there].numpy()
            answer = running.stub.Retrieve(
                RetrieveRequest(
                    user_id=str(dataset.user_ids[user]),
                    k=min(candidates, len(score_K)),
                    exclude_seen=True,
                    rerank=RERANK_LIME,
                )
            )
            assert answer.rerank == RERANK_LIME
            expected = dict(zip((str(item) for item in dataset.item_ids[item_K]), score_K.tolist(), strict=True))
            offline = [expected[item] for item in ids(answer)]
            assert [item.score for item in answer.items] == pytest.approx(offline, abs=DIGITS)
            # the same order, but for items whose scores are the same up to the digits of float16
            assert (np.diff(offline) <= DIGITS).all()
            assert len(offline) == min(candidates, len(score_K))
            compared += len(set(np.round(offline, 1)))
    assert compared > 500


def test_requests_say_what_orders_their_answer_and_the_reply_says_what_did(ranking: Any) -> None:
    by_default = ranking.stub.Retrieve(session(k=20))
    answers = {order: ranking.stub.Retrieve(session(k=20, rerank=order)) for order in (1, 2, 3)}
    assert by_default.rerank == RERANK_LIME
    assert [answers[order].rerank for order in (1, 2, 3)] == [RERANK_NONE, RERANK_EXACT, RERANK_LIME]
    assert ids(by_default) == ids(answers[RERANK_LIME])
    assert ids(answers[RERANK_NONE]) == ids(answers[RERANK_EXACT]) != ids(by_default)
    stages = {order: [timing.stage for timing in answer.timings] for order, answer in answers.items()}
    assert stages[RERANK_NONE] == ["fetch", "encode", "search", "filter"]
    assert stages[RERANK_EXACT] == stages[RERANK_LIME] == ["fetch", "encode", "search", "filter", "rerank"]
    counted = ranking.metrics.registry.get_sample_value("rf_stage_seconds_count", {"stage": "rerank"})
    assert counted >= 3
    assert ranking.stub.Retrieve(RetrieveRequest(user_id="4711", k=3)).rerank == RERANK_NONE
    with pytest.raises(grpc.RpcError) as wrong:
        ranking.stub.Retrieve(session(k=20, rerank=9))
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "rerank: 9 is none of RERANK_UNSPECIFIED, " in (wrong.value.details() or "")


def test_requests_at_the_same_time_get_the_answers_they_get_alone(ranking: Any) -> None:
    requests = [
        RetrieveRequest(user_id=str(user), k=15, exclude_seen=user % 2 == 0, rerank=order)
        for user in range(1, 31)
        for order in (RERANK_NONE, RERANK_LIME)
    ]
    alone = [ranking.stub.Retrieve(request) for request in requests]
    together = [ranking.stub.Retrieve.future(request) for request in requests * 2]
    for call, expected in zip(together, alone * 2, strict=True):
        answer = call.result()
        assert answer.rerank == expected.rerank
        assert [i.score for i in answer.items] == pytest.approx([i.score for i in expected.items], abs=1e-4)
        assert len(set(ids(answer)) ^ set(ids(expected))) <= 2  # where scores are equal but for rounding


def test_a_deployment_says_what_orders_answers(ranked_home: Path, start_server: Callable[..., Any]) -> None:
    settings = Settings(home=ranked_home, feature_repo=REPOSITORY, rerank="none")
    with start_server(settings, bundle=RANKED) as running:
        assert running.stub.Retrieve(session(k=5)).rerank == RERANK_NONE
        assert running.stub.Retrieve(session(k=5, rerank=RERANK_LIME)).rerank == RERANK_LIME


def test_bundles_with_and_without_a_re_ranker_take_over_from_each_other(
    ranked_copy: Settings, registry_of: Callable[[Path], "Registry"], start_server: Callable[..., Any], logs: Any
) -> None:
    registry = registry_of(ranked_copy.workspace.root)
    settings = ranked_copy.model_copy(update={"rerank": "lime"})
    with start_server(settings, poll_seconds=0.02) as running:
        catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
        genres = FeatureValue(string_list=StringList(values=["War"]))
        catalog.UpsertItems(
            UpsertItemsRequest(items=[Item(item_id="1000", features={"item_attributes__genres": genres})])
        )
        assert any(line["event"] == "no re-ranker" and line["bundle"] == PLAIN for line in logs.entries)
        before = running.stub.Retrieve(session(k=100))
        assert (before.bundle, before.rerank) == (PLAIN, RERANK_NONE)
        with pytest.raises(grpc.RpcError) as missing:
            running.stub.Retrieve(session(k=100, rerank=RERANK_LIME))
        assert missing.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert f"bundle '{PLAIN}' has no re-ranker" in (missing.value.details() or "")
        registry.traffic.split(RANKED, 50)
        deadline = time.monotonic() + 60
        while {running.stub.Retrieve(RetrieveRequest(user_id=str(u), k=1)).bundle for u in range(1, 31)} != {
            PLAIN,
            RANKED,
        }:
            assert time.monotonic() < deadline
        for user in range(1, 31):
            answer = running.stub.Retrieve(RetrieveRequest(user_id=str(user), k=5))
            assert answer.rerank == (RERANK_LIME if answer.bundle == RANKED else RERANK_NONE)
        promote(registry, RANKED)
        wait_for(running, RANKED)
        after = running.stub.Retrieve(session(k=100))
        assert after.rerank == RERANK_LIME
        assert set(ids(after)) == set(ids(before))  # the upserted item, encoded anew, among them
        assert "1000" in ids(after)
        assert ids(after) != ids(before)
        registry.traffic.shadow(PLAIN, 1.0)
        stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
        while not stub.GetDeployment(GetDeploymentRequest()).HasField("shadow"):
            assert time.monotonic() < deadline + 60
        running.stub.Retrieve(session(k=10, rerank=RERANK_LIME, explain=True))
        while stub.GetDeployment(GetDeploymentRequest()).shadow_report.requests < 1:
            assert time.monotonic() < deadline + 60
        assert stub.GetDeployment(GetDeploymentRequest()).shadow_report.failed == 0
        promote(registry, PLAIN)
        wait_for(running, PLAIN)
        assert ids(running.stub.Retrieve(session(k=100))) == ids(before)


@pytest.mark.parametrize("order", [RERANK_NONE, RERANK_LIME])
def test_explanations_come_with_the_items_they_explain(
    ranking: Any, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking.retriever._explaining, "_seconds", 60.0)
    plain = ranking.stub.Retrieve(session(k=5, rerank=order))
    answer = ranking.stub.Retrieve(session(k=5, rerank=order, explain=True))
    assert ids(answer) == ids(plain)
    assert [timing.stage for timing in answer.timings][-1] == "explain"
    assert not any(item.HasField("explanation") for item in plain.items)
    assert all(item.explanation.reasons for item in answer.items)
    events = {reason.event.item_id for item in answer.items for reason in item.explanation.reasons} - {""}
    assert events
    assert events <= set(HISTORY)


def test_explanations_have_a_budget(ranking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking.retriever._explaining, "_seconds", 0.0)
    answer = ranking.stub.Retrieve(session(k=5, explain=True))
    assert len(answer.items) == 5
    assert not any(item.HasField("explanation") for item in answer.items)


def test_a_bundle_whose_re_ranker_gives_no_numbers_is_refused(
    ranked_copy: Settings,
    registry_of: Callable[[Path], "Registry"],
    random_ranker: Callable[..., "Ranker"],
    store_ranker: Callable[..., None],
    start_server: Callable[..., Any],
) -> None:
    from rf_platform.errors import RunError
    from rf_serving.bundle.build import build_bundle

    ranker = random_ranker()
    with torch.no_grad():
        ranker.get_parameter("fold_user.bias").fill_(torch.nan)
    home = ranked_copy.workspace.root
    store_ranker(home / "runs" / "tiny-run", ranker, "broken")
    built = build_bundle(registry_of(home), home / "bundles", "tiny-run")
    with pytest.raises(RunError, match="its re-ranker gives scores that are not numbers"):
        start_server(ranked_copy, bundle=built.record.name).__enter__()


def test_rf_query_orders_and_explains(
    ranking: Any, ranked_home: Path, run_rf: Callable[..., tuple[int, str, str]]
) -> None:
    address = ("--address", ranking.server.address)
    code, out, _ = run_rf(ranked_home, "query", "--history", "5,17,3", "-k", "4", "--explain", *address)
    assert code == 0
    assert "ordered by the re-ranker" in out
    assert "because of" in out
    assert "Movie" in out
    code, out, _ = run_rf(ranked_home, "query", "--user", "17", "--rerank", "none", *address)
    assert code == 0
    assert "ordered by" not in out
    assert "all 60 eligible items scored" in out


def test_rf_batch_orders_as_it_is_told(
    ranked_home: Path, tmp_path: Path, run_rf: Callable[..., tuple[int, str, str]]
) -> None:
    import pyarrow.parquet as pq

    users = tmp_path / "users.txt"
    users.write_text("17\n3\n")
    found = {}
    for order in ("none", "lime"):
        out = tmp_path / f"{order}.parquet"
        options = ("--users", str(users), "-k", "60", "--bundle", RANKED, "--rerank", order)
        code, _, err = run_rf(ranked_home, "batch", "--out", str(out), *options)
        assert code == 0, err
        table = pq.read_table(out)
        assert table.schema.metadata[b"rf.rerank"] == order.encode()
        found[order] = table["items"].to_pylist()
    assert [set(items) for items in found["none"]] == [set(items) for items in found["lime"]]
    assert found["none"] != found["lime"]
    out = tmp_path / "x.parquet"
    code, _, err = run_rf(
        ranked_home, "batch", "--out", str(out), "--users", str(users), "--bundle", PLAIN, "--rerank", "lime"
    )
    assert code == 2
    assert "has no re-ranker" in err
    assert not out.exists()


def test_rf_serve_passes_on_what_it_is_told(
    ranked_home: Path, run_rf: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options win over the variables, also in worker processes, where settings arrive pickled."""
    given: list[Settings] = []

    def run(settings: Settings, options: Any) -> int:
        given.append(pickle.loads(pickle.dumps(settings)))
        return 0

    monkeypatch.setattr("rf_serving.server.process.run_alone", run)
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setenv("RF_RERANK", "exact")
    asked = ("--rerank", "none", "--rerank-candidates", "30", "--require-signature", "a.pub")
    assert run_rf(ranked_home, "serve", *asked)[0] == 0
    assert run_rf(ranked_home, "serve")[0] == 0
    assert [s.require_signature for s in given] == [Path("a.pub").resolve(), None]
    assert [(s.rerank, s.rerank_candidates) for s in given] == [("none", 30), ("exact", 1000)]
    assert RerankPolicy.of(given[0]).order(RERANK_UNSPECIFIED, RANKED, reranker=True) == RERANK_NONE
    monkeypatch.setenv("RF_RERANK", "best")
    code, _, err = run_rf(ranked_home, "serve")
    assert code == 2
    assert "RF_RERANK='best' is not usable" in err
