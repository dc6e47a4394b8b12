"""One meaning at every door: what a session says is taken as it is when it was imported or recorded."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rf_platform.errors import UsageError
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.store import open_store
from rf_platform.settings import Settings
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route
from rf_serving.user_features.offered import OfferedFeatures
from rf_serving.user_features.session import SessionReader

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
TYPE, RATING = "interaction_context__event_types", "interaction_context__ratings"
RULES = (
    "[{type: dislike, is: unwanted}, {field: rating, below: 3, is: unwanted}, {type: impression, is: seen}, "
    "{type: ping, is: ignored}, {type: interaction, field: rating, above: 4.5, is: seen}]"
)
Said = tuple[int, dict[str, str | float]]


@pytest.fixture
def retriever(home_copy: Path) -> Iterator[Retriever]:
    bundle = ServedBundle.open(home_copy / "bundles" / "tiny-run-1")
    offered = OfferedFeatures()
    offered.renew(replace(bundle.spec, meanings=parse_meanings(RULES, "view 'h'")))
    route = Route.of(bundle, open_store(Settings(home=home_copy, feature_repo=REPOSITORY)))
    made = Retriever(replace(route, engine=Engine(bundle, offered=offered)))
    yield made
    made.close()


def session(said: Sequence[Said]) -> Session:
    def value(each: str | float) -> FeatureValue:
        return FeatureValue(string_value=each) if isinstance(each, str) else FeatureValue(double_value=each)

    return Session(
        history=[
            Interaction(
                item_id=str(item),
                timestamp_us=1_700_000_000_000_000 + place,
                context={name: value(each) for name, each in context.items()},
            )
            for place, (item, context) in enumerate(said)
        ]
    )


def ask(retriever: Retriever, said: Sequence[Said], *, exclude_seen: bool = False) -> Any:
    subject = session(said)
    return asyncio.run(retriever.retrieve(Query(subject=subject, k=60, exclude_seen=exclude_seen, history=True)))


WISHES: list[Said] = [(3, {TYPE: "rating", RATING: 4.0}), (8, {TYPE: "like"}), (12, {TYPE: "rating"})]
OTHERS: list[Said] = [
    (20, {TYPE: "dislike"}),
    (21, {TYPE: "rating", RATING: 1.0}),
    (22, {TYPE: "impression", RATING: 5.0}),
    (23, {TYPE: "ping"}),
    (24, {RATING: 5.0}),  # a type that is not said is that of an event without one
]


def test_a_session_is_read_as_the_log_is(retriever: Retriever) -> None:
    alone = ask(retriever, WISHES)
    mixed = ask(retriever, [OTHERS[0], *WISHES[:2], *OTHERS[1:4], WISHES[2], OTHERS[4]])
    assert mixed.history == alone.history == ["3", "8", "12"]
    # Gaps between times differ by microseconds: what was put aside leaves no trace in what is read.
    assert mixed.items == alone.items
    assert not mixed.cold
    unseen = ask(retriever, [*WISHES, *OTHERS], exclude_seen=True)
    assert unseen.items == [item for item in alone.items if item not in {"3", "8", "12", "20", "21", "22", "24"}]


def test_a_session_of_impressions_alone_is_cold_and_has_seen_them(retriever: Retriever) -> None:
    shown: list[Said] = [(item, {TYPE: "impression"}) for item in range(1, 51)]
    answer = ask(retriever, shown, exclude_seen=True)
    assert answer.cold
    assert answer.history == []
    assert sorted(map(int, answer.items)) == list(range(51, 61))
    assert ask(retriever, shown).items == ask(retriever, []).items


def test_columns_that_no_history_keeps_are_given_by_their_own_name(home_copy: Path) -> None:
    bundle = ServedBundle.open(home_copy / "bundles" / "tiny-run-1")
    rules = parse_meanings("[{field: dwell, below: 2, is: seen}, {type: dislike, is: unwanted}]", "view 'h'")
    offered = OfferedFeatures()
    offered.renew(replace(bundle.spec, meanings=rules))
    catalog = Engine(bundle).catalog.snapshot
    reader = SessionReader(bundle, offered)
    read = reader.read(session([(3, {"dwell": 1.5}), (8, {"dwell": 2.0}), (12, {}), (13, {TYPE: "dislike"})]), catalog)
    assert read.items == [8, 12]
    assert list(read.seen if read.seen is not None else ()) == [3, 13]
    with pytest.raises(UsageError, match=r'session.history\[0\].context\["dwell"\]: \'long\' is no Float64'):
        reader.read(session([(3, {"dwell": "long"})]), catalog)
    with pytest.raises(UsageError, match=r"there is no such feature"):
        SessionReader(bundle, OfferedFeatures()).read(session([(3, {"dwell": 1.5})]), catalog)


def test_imported_users_and_sessions_that_say_the_same_get_the_same_history(
    retriever: Retriever, home_copy: Path
) -> None:
    log = pq.read_table(home_copy / "tables" / "interactions.parquet").to_pylist()
    rows = sorted((r for r in log if r["user_id"] == 30), key=lambda r: (r["event_timestamp"], r["input_order"]))
    said: list[Said] = [
        (r["item_id"], {TYPE: r["event_type"], **({} if r["rating"] is None else {RATING: r["rating"]})}) for r in rows
    ]
    kept = [str(r["item_id"]) for r in rows if r["rating"] is None or r["rating"] >= 3]
    assert 0 < len(kept) < len(rows)
    assert ask(retriever, said).history == kept
