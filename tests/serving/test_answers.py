"""The answer over gRPC, from the online store through FAISS, against the offline computation on the dataset."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_platform.settings import Settings
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer

VALUE_FIELDS = {str: "string_value", int: "int_value", float: "double_value"}
CONTEXT = {
    "interaction_context__event_types": "event_type",
    "interaction_context__ratings": "rating",
    "interaction_context__hours": "hour",
    "interaction_context__weekdays": "weekday",
}


@pytest.fixture(scope="module")
def scorer(dataset: Dataset, model: RetrievalFormer) -> ModelScorer:
    """The model as the evaluation uses it."""
    return ModelScorer(model, dataset)


def offline(scorer: ModelScorer, dataset: Dataset, user_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the user's scores [items] and the rows of the items in the history."""
    user = int(np.flatnonzero(dataset.user_ids == user_id)[0])
    begin, end = (int(x) for x in dataset.sequences.offsets[user : user + 2])
    query = scorer.queries(np.array([user]), np.array([end - begin]))[0]
    return (scorer.vectors_ND @ query).numpy(), np.asarray(dataset.sequences.item[begin:end])


def values(given: dict[str, Any]) -> dict[str, FeatureValue]:
    return {k: FeatureValue(**{VALUE_FIELDS[type(v)]: v}) for k, v in given.items() if v is not None}


def session_of(settings: Settings, user_id: int) -> Session:
    """Return what the tables know of a user as an anonymous session."""
    log = pq.read_table(settings.workspace.tables / "interactions.parquet", filters=[("user_id", "=", user_id)])
    (person,) = pq.read_table(
        settings.workspace.tables / "users.parquet", filters=[("user_id", "=", user_id)]
    ).to_pylist()
    history = [
        Interaction(
            item_id=str(event["item_id"]),
            timestamp_us=round(event["event_timestamp"].timestamp() * 1_000_000),
            context=values({name: event[column] for name, column in CONTEXT.items()}),
        )
        for event in log.to_pylist()
    ]
    profile = {f"user_profile__{f}": person[f] for f in ("gender", "age_group", "occupation", "zip_area")}
    return Session(history=history, profile=values(profile))


@pytest.mark.parametrize("user_id", [1, 3, 9, 17, 30])
def test_a_known_user_gets_what_the_offline_computation_says(
    stub: Any, scorer: ModelScorer, dataset: Dataset, user_id: int
) -> None:
    scores, seen = offline(scorer, dataset, user_id)
    scores[seen] = -np.inf
    expected = np.argsort(-scores)[:12]
    answer = stub.Retrieve(RetrieveRequest(user_id=str(user_id), k=12, exclude_seen=True, return_history=True))
    assert [i.item_id for i in answer.items] == [str(i) for i in dataset.item_ids[expected]]
    np.testing.assert_allclose([i.score for i in answer.items], scores[expected], atol=1e-5)
    assert list(answer.history) == [str(i) for i in dataset.item_ids[seen]]
    assert not answer.cold


def test_seen_items_come_back_when_they_are_not_excluded(stub: Any, scorer: ModelScorer, dataset: Dataset) -> None:
    scores, seen = offline(scorer, dataset, 30)
    answer = stub.Retrieve(RetrieveRequest(user_id="30", k=100))
    ids = [i.item_id for i in answer.items]
    assert ids == [str(i) for i in dataset.item_ids[np.argsort(-scores)]]
    assert {str(i) for i in dataset.item_ids[seen]} < set(ids)


@pytest.mark.parametrize("user_id", [3, 17, 30])
def test_a_session_with_the_same_features_gets_the_same_answer(stub: Any, settings: Settings, user_id: int) -> None:
    known = stub.Retrieve(RetrieveRequest(user_id=str(user_id), k=20, exclude_seen=True))
    session = session_of(settings, user_id)
    anonymous = stub.Retrieve(RetrieveRequest(session=session, k=20, exclude_seen=True))
    assert list(anonymous.items) == list(known.items)
    assert anonymous.spec_hash == known.spec_hash
    for interaction in session.history:  # a rating of 4 is one of 4.0
        value = interaction.context["interaction_context__ratings"]
        if value.HasField("double_value"):
            value.int_value = int(value.double_value)
    whole = stub.Retrieve(RetrieveRequest(session=session, k=20, exclude_seen=True))
    assert list(whole.items) == list(known.items)
    # and every part of it matters
    for change in (
        lambda s: s.profile["user_profile__gender"].CopyFrom(FeatureValue(string_value="X")),
        lambda s: s.history[-1].context["interaction_context__ratings"].CopyFrom(FeatureValue(double_value=-3.0)),
        lambda s: setattr(s.history[-1], "timestamp_us", s.history[-1].timestamp_us + 10**12),
    ):
        other = Session()
        other.CopyFrom(session)
        change(other)
        assert stub.Retrieve(RetrieveRequest(session=other, k=20, exclude_seen=True)).items != known.items


def test_the_server_reads_the_latest_interactions_only(stub: Any) -> None:
    recent = [Interaction(item_id=str(i)) for i in range(1, 9)]
    older = [Interaction(item_id="40"), Interaction(item_id="50")]
    short = stub.Retrieve(RetrieveRequest(session=Session(history=recent), k=60))
    long = stub.Retrieve(RetrieveRequest(session=Session(history=older + recent), k=60))
    assert short.items == long.items
    unseen = stub.Retrieve(RetrieveRequest(session=Session(history=older + recent), k=60, exclude_seen=True))
    assert len(unseen.items) == 50  # older ones count as seen all the same
    assert not {i.item_id for i in unseen.items} & {"40", "50", *map(str, range(1, 9))}


def test_the_order_of_the_history_matters(stub: Any) -> None:
    items = [Interaction(item_id=i) for i in ("5", "6", "7")]
    forth = stub.Retrieve(RetrieveRequest(session=Session(history=items), k=60))
    back = stub.Retrieve(RetrieveRequest(session=Session(history=items[::-1]), k=60))
    assert forth.items != back.items


def test_times_that_are_not_known_are_not_times_without_a_gap(stub: Any) -> None:
    at_once = [Interaction(item_id=i, timestamp_us=10**15) for i in ("5", "6", "7")]
    unknown = [Interaction(item_id=i) for i in ("5", "6", "7")]
    answers = [stub.Retrieve(RetrieveRequest(session=Session(history=h), k=60)).items for h in (at_once, unknown)]
    assert answers[0] != answers[1]


def test_an_unknown_user_is_answered_as_a_visitor_of_whom_nothing_is_known(stub: Any) -> None:
    unknown = stub.Retrieve(RetrieveRequest(user_id="999", k=5, exclude_seen=True))
    visitor = stub.Retrieve(RetrieveRequest(session=Session(), k=5, exclude_seen=True))
    assert unknown.cold
    assert visitor.cold
    assert len(unknown.items) == 5
    assert unknown.items == visitor.items


def test_a_user_with_a_profile_and_no_history_is_cold_but_not_unknown(stub: Any, settings: Settings) -> None:
    profiled = stub.Retrieve(RetrieveRequest(user_id="31", k=5))
    assert profiled.cold
    assert profiled.items != stub.Retrieve(RetrieveRequest(user_id="999", k=5)).items
    assert profiled.items == stub.Retrieve(RetrieveRequest(session=session_of(settings, 31), k=5)).items


def test_a_catalog_smaller_than_k_is_returned_whole(stub: Any) -> None:
    everything = stub.Retrieve(RetrieveRequest(user_id="17", k=100))
    assert len({i.item_id for i in everything.items}) == 60
    unseen = stub.Retrieve(RetrieveRequest(user_id="17", k=100, exclude_seen=True, return_history=True))
    assert len(unseen.items) == 60 - len(unseen.history)
    assert not {i.item_id for i in unseen.items} & set(unseen.history)


def test_the_answer_says_where_it_comes_from(stub: Any, dataset: Dataset) -> None:
    answer = stub.Retrieve(RetrieveRequest(user_id="17", k=3))
    assert answer.bundle == "tiny-run-1"
    assert answer.spec_hash == dataset.spec.hash
    assert [t.stage for t in answer.timings] == ["fetch", "encode", "search", "filter"]
    assert all(t.milliseconds > 0 for t in answer.timings)
    assert not answer.history  # not asked for
    scores = [i.score for i in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert all(-1.001 <= s <= 1.001 for s in scores)
