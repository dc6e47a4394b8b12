"""The line "as served" of an evaluation against what an engine answers, asked for every case as a server would be."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_serving.bundle.served import ServedBundle
from rf_serving.index import ExactIndex
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.search.index_scorer import IndexScorer
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures
from rf_training.evaluation import Served, Split, evaluate
from rf_training.model_scorer import ModelScorer

if TYPE_CHECKING:
    from rf_training.model.retrievalformer import RetrievalFormer

CONTEXT = {"event_types": "event_type", "ratings": "rating", "hours": "hour", "weekdays": "weekday"}


def known_before_the_last(tables: Path, kept: int) -> dict[int, tuple[UserFeatures, str]]:
    """Features of each user as an online store has them just before the last event, and the item of that."""
    log = pq.read_table(tables / "interactions.parquet").sort_by(
        [(name, "ascending") for name in ("user_id", "event_timestamp", "input_order")]
    )
    profiles = {row.pop("user_id"): row for row in pq.read_table(tables / "users.parquet").to_pylist()}
    known: dict[int, tuple[UserFeatures, str]] = {}
    for user in sorted(set(log["user_id"].to_pylist())):
        events = log.filter(pc.equal(log["user_id"], user))
        before, last = events.slice(0, len(events) - 1), events["item_id"][-1].as_py()
        history = before.slice(max(0, len(before) - kept))
        profile = {f"user_profile__{k}": v for k, v in profiles[user].items() if k != "event_timestamp"}
        features = UserFeatures(
            profile=profile,
            items=history["item_id"].to_pylist(),
            timestamps=history["event_timestamp"].cast(pa.int64()).to_numpy(),
            context={f"interaction_context__{k}": history[v].to_pylist() for k, v in CONTEXT.items()},
            seen=np.unique(before["item_id"].to_numpy()),
        )
        known[user] = features, str(last)
    return known


@pytest.mark.parametrize("kept", [50, 3])
def test_it_is_what_an_engine_answers(
    kept: int, tables: Path, home: Path, dataset: Dataset, model: "RetrievalFormer"
) -> None:
    """With the whole history, and with less of it than the model could read."""
    exact = ModelScorer(model, dataset)
    scorer = IndexScorer(exact.reading(kept), ExactIndex.build(exact.vectors_ND.numpy()))
    report = evaluate(
        dataset.sequences,
        [exact],
        n_items=len(dataset.item_ids),
        split=Split.TEST,
        seed=0,
        served=Served(scorer=scorer, exact=exact.name),
        resamples=10,
        trained=dataset.trained_items,
    )
    engine = Engine(ServedBundle.open(home / "bundles" / "tiny-run-1"))
    ranks: list[Any] = []
    for user, (features, target) in known_before_the_last(tables, kept).items():
        assert features.seen is not None
        if len(features.seen) < 2:  # no test case
            continue
        query = Query(subject=user, k=50, exclude_seen=True)
        items = engine.rank(features, query, StageTimer(lambda stage, seconds: None)).items
        ranks.append(items.index(target) + 1 if target in items else np.inf)
    assert report.served is not None
    assert report.cases == len(ranks)
    rank = np.array(ranks)
    for cutoff in (5, 10, 20, 50):
        assert report.served.metrics[f"recall@{cutoff}"].value == pytest.approx(np.mean(rank <= cutoff))
        gains = np.where(rank <= cutoff, 1 / np.log2(1 + rank), 0)
        assert report.served.metrics[f"ndcg@{cutoff}"].value == pytest.approx(np.mean(gains))
    differs = report.served.metrics["mrr@50"].value != report.result(exact.name, "excluded").metrics["mrr@50"].value
    assert differs == (kept == 3)
