"""Lists and sources of a policy, in answers of real servers, while events come in."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.settings import Settings
from rf_protos.v1.explanation_pb2 import RuleCause
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.feedback_pb2 import Event, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import (
    Interaction,
    RetrieveRequest,
    RetrieveResponse,
    SearchPlan,
    Session,
    SimilarItemsRequest,
)

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
GENRES = "item_attributes__genres"
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
POLICY = f"""
lists:
  best: {{kind: popular, half_life_days: 30}}
  bought: {{kind: popular, event_types: [buy], half_life_days: 1}}
  genre: {{kind: popular, half_life_days: 30, by: {GENRES}}}
placements:
  home: {{without_user: best}}
  sold: {{without_user: bought}}
  category: {{without_user: genre}}
  mixed:
    sources:
      use: [{{source: model, quota: 2}}, {{source: best}}, {{source: caller}}]
  product: {{eligibility: [{GENRES}=Drama], pins: [{{item: DRAMA, place: 2}}]}}
  like: {{sources: {{merge: rank, use: [{{source: similar}}]}}}}
  taken: {{sources: {{use: [{{source: similar, co_occurrence: 0.75}}]}}}}
"""


@pytest.fixture(scope="module")
def shop(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Settings:
    from rf_platform.registry import Registry

    settings = Settings(home=copy_workspace(home, tmp_path_factory.mktemp("lists") / "home"), feature_repo=REPOSITORY)
    Registry.of(settings).policies.apply(POLICY.replace("DRAMA", str(last_drama(settings))))
    return settings


@pytest.fixture(scope="module")
def servers(shop: Settings, start_server: Callable[..., Any]) -> Iterator[list[Any]]:
    """Two servers of one workspace, as two workers are."""
    with start_server(shop) as one, start_server(shop) as other:
        until(lambda: all(ask(each, "home", k=1).plan.strategy == SearchPlan.LISTED for each in (one, other)))
        yield [one, other]


def last_drama(settings: Settings) -> int:
    """The drama with the highest id: a pin that may stand in an answer of dramas."""
    table = pq.read_table(settings.workspace.tables / "items.parquet")
    pairs = zip(table["item_id"].to_pylist(), table["genres"].to_pylist(), strict=True)
    return max(int(item) for item, genres in pairs if "Drama" in genres)


def ask(server: Any, placement: str, k: int = 60, session: Session | None = None, **given: Any) -> RetrieveResponse:
    request = RetrieveRequest(session=session or Session(), placement=placement, k=k, **given)
    response: RetrieveResponse = server.stub.Retrieve(request)
    return response


def ids(response: RetrieveResponse, source: str | None = None) -> list[int]:
    return [int(item.item_id) for item in response.items if source in (None, item.source)]


def until(asked: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not asked():
        assert time.monotonic() < end
        time.sleep(0.05)


def imported(settings: Settings) -> list[tuple[int, int]]:
    """Item and time of all imported interactions."""
    table = pq.read_table(settings.workspace.tables / "interactions.parquet")
    times = table["event_timestamp"].cast("int64").to_pylist()
    return list(zip(table["item_id"].to_pylist(), times, strict=True))


def popular(events: list[tuple[int, int]], half_life_us: int) -> list[int]:
    newest = max(time for _, time in events)
    counts: dict[int, float] = defaultdict(float)
    for item, moment in events:
        counts[item] += math.exp2((moment - newest) / half_life_us)
    return sorted(counts, key=lambda item: (-counts[item], item))


def genres(server: Any) -> dict[int, list[str]]:
    snapshot = server.retriever.engine.catalog.snapshot
    rows = range(snapshot.rows)
    return {int(t): v[GENRES] for t, v in zip(snapshot.texts(rows), snapshot.values(np.arange(len(rows))), strict=True)}


def test_nobody_gets_the_list_and_behind_it_what_the_model_says(servers: list[Any], shop: Settings) -> None:
    one, other = servers
    expected = popular(imported(shop), 30 * DAY_US)
    answer = ask(one, "home")
    assert answer.plan.strategy == SearchPlan.LISTED
    assert (answer.cold, answer.degraded, answer.placement) == (True, False, "home")
    assert ids(answer, "best") == expected == ids(answer)[: len(expected)]
    assert sorted(ids(answer)) == list(range(1, 61))
    by_model = [i for i in ids(one.stub.Retrieve(RetrieveRequest(session=Session(), k=60))) if i not in expected]
    assert ids(answer, "model") == by_model
    assert ids(ask(other, "home")) == ids(answer)
    assert ids(one.stub.Retrieve(RetrieveRequest(user_id="4711", placement="home", k=60))) == ids(answer)
    some = ask(one, "home", k=10, filter=Filter(deny_items=map(str, expected[:3])))
    assert ids(some) == expected[3:13]


def test_of_a_known_visitor_the_model_answers(servers: list[Any]) -> None:
    known = [
        Session(history=[Interaction(item_id="3")]),
        Session(profile={"user_profile__gender": FeatureValue(string_value="F")}),
    ]
    for session in known:
        answer = ask(servers[0], "home", session=session)
        assert answer.plan.strategy == SearchPlan.EXACT
        assert {item.source for item in answer.items} == {"model"}


def test_a_category_has_its_own_list(servers: list[Any], shop: Settings) -> None:
    of = genres(servers[0])
    expected = [item for item in popular(imported(shop), 30 * DAY_US) if "War" in of[item]]
    assert ids(ask(servers[0], "category", category="War"), "genre") == expected
    assert ids(ask(servers[0], "category"), "genre") == popular(imported(shop), 30 * DAY_US)


def test_events_are_in_the_lists_of_all_servers_within_seconds(servers: list[Any], shop: Settings) -> None:
    """Equal to a count by hand, to the last place."""
    one, other = servers
    now = int(time.time() * 1e6)
    bought = [(7, now - 30 * HOUR_US), (9, now - HOUR_US), (7, now - 2 * HOUR_US), (12, now), (9, now), (12, now)]
    events = [
        Event(event_id=f"b{n}", user_id="5", item_id=str(item), timestamp_us=moment)
        for n, (item, moment) in enumerate(bought)
    ]
    for event in events:
        event.values["event_type"].string_value = "buy"
    events.append(Event(event_id="v", user_id="6", item_id="30", timestamp_us=now))
    assert ask(one, "sold").plan.strategy != SearchPlan.LISTED  # nothing was bought so far
    begin = time.monotonic()
    feedback = FeedbackServiceStub(one.channel)  # type: ignore[no-untyped-call]
    feedback.RecordEvents(RecordEventsRequest(events=events))
    until(lambda: all(ids(ask(each, "sold"), "bought") == popular(bought, DAY_US) for each in servers), 20)
    assert time.monotonic() - begin < 5
    everything = popular([*imported(shop), *bought, (30, now)], 30 * DAY_US)
    for each in (one, other):
        until(lambda each=each: ids(ask(each, "home"), "best")[:4] == everything[:4])  # type: ignore[misc]


def test_sources_share_the_places_without_doubles(servers: list[Any]) -> None:
    session = Session(history=[Interaction(item_id="3")])
    best = ids(ask(servers[0], "home"), "best")
    model = ids(servers[0].stub.Retrieve(RetrieveRequest(session=session, k=60, exclude_seen=True)))
    caller = ["41", "999", str(model[0]), "42"]
    answer = ask(servers[0], "mixed", k=12, session=session, exclude_seen=True, candidate_items=caller)
    assert len(set(ids(answer))) == 12
    assert [item.source for item in answer.items][:4] == ["model", "model", "best", "caller"]
    assert set(ids(answer, "caller")) == {41, 42}
    assert ids(answer, "model")[0] == model[0]
    assert 3 not in ids(answer)
    assert ids(answer, "best")[0] == next(item for item in best if item not in (3, model[0], 41))
    like = ask(servers[0], "like", k=5, session=session)
    similar = servers[0].stub.SimilarItems(SimilarItemsRequest(item_ids=["3"], k=5))
    assert ids(like, "similar") == ids(like) == [int(item.item_id) for item in similar.items]


def test_an_explained_answer_names_the_source_of_each_item(servers: list[Any]) -> None:
    session = Session(history=[Interaction(item_id="3")])
    found = ask(servers[0], "mixed", k=12, session=session, candidate_items=["41", "42"], explain=True)
    best = ids(ask(servers[0], "home"), "best")
    for item in found.items:
        causes = [reason.rule for reason in item.explanation.reasons if reason.HasField("rule")]
        if item.source == "best":
            place = best.index(int(item.item_id)) + 1
            assert causes[0] == RuleCause(kind=RuleCause.LIST, name="best", place=place)
        elif item.source == "caller":
            assert causes[0] == RuleCause(kind=RuleCause.CALLER, place=["41", "42"].index(item.item_id) + 1)
        else:
            assert causes == []


def test_similar_items_by_co_occurrence_are_a_source_that_says_so(servers: list[Any]) -> None:
    session = Session(history=[Interaction(item_id="3")])
    asked = SimilarItemsRequest(item_ids=["3"], k=60, co_occurrence_share=0.75)
    until(lambda: servers[0].stub.SimilarItems(asked).co_occurrence_share == 0.75)
    similar = {item.item_id: item for item in servers[0].stub.SimilarItems(asked).items}
    assert any(item.co_occurrence for item in similar.values())
    found = ask(servers[0], "taken", k=5, session=session, explain=True)
    assert [item.item_id for item in found.items] == list(similar)[:5]
    for place, item in enumerate(found.items, 1):
        expected, (vectors, *users) = similar[item.item_id], item.explanation.reasons
        assert vectors.rule == RuleCause(kind=RuleCause.SIMILAR, name="3", place=place)
        assert vectors.contribution == pytest.approx(0.25 * expected.cosine, abs=1e-6)
        of_users = [each for each in users if each.rule.kind == RuleCause.CO_OCCURRENCE]
        assert len(of_users) == bool(expected.co_occurrence)
        assert sum(each.contribution for each in of_users) == pytest.approx(0.75 * expected.co_occurrence, abs=1e-6)


def test_a_batch_is_answered_from_the_same_sources(
    servers: list[Any],
    shop: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., tuple[int, str, str]],
) -> None:
    from rf_platform.settings import get_settings

    monkeypatch.setenv("RF_HOME", str(shop.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(REPOSITORY))
    get_settings.cache_clear()
    (tmp_path / "users.txt").write_text("4711\n17\n")
    for placement in ("home", "taken"):
        out = tmp_path / f"{placement}.parquet"
        given = ["--placement", placement, "-k", "12", "--users", str(tmp_path / "users.txt"), "--include-seen"]
        code, _, err = run_command("batch", "--out", str(out), *given)
        assert code == 0, err
        for row in pq.read_table(out).to_pylist():
            request = RetrieveRequest(user_id=str(row["user_id"]), placement=placement, k=12)
            answer = servers[0].stub.Retrieve(request)
            assert row["items"] == ids(answer)
            assert row["sources"] == [item.source for item in answer.items]


def test_a_degraded_answer_comes_from_the_list(servers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from rf_platform.errors import UnavailableError

    retriever = servers[0].retriever
    listed = ids(ask(servers[0], "home"))

    async def silent(*_: Any, **__: Any) -> Any:
        raise UnavailableError("silent")

    monkeypatch.setattr(retriever._reads, "fetch", silent)
    answer = servers[0].stub.Retrieve(RetrieveRequest(user_id="17", placement="home", k=60))
    assert answer.degraded
    assert answer.plan.strategy == SearchPlan.LISTED
    assert ids(answer) == listed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"placement": "home", "candidate_items": ["1"]}, "candidate_items: placement 'home' has no source 'caller'"),
        ({"candidate_items": ["1"]}, "candidate_items: an answer without a placement has no source"),
        ({"placement": "mixed", "candidate_items": ["x"]}, r"candidate_items\[0\]: 'x' is not an id here"),
        ({"placement": "mixed", "candidate_items": ["1"] * 1001}, "candidate_items: 1001 are given; the limit is 1000"),
        ({"placement": "home", "category": "War"}, "category: placement 'home' has no list by a feature"),
        ({"placement": "lobby"}, "placement: there is no 'lobby'; known are category, home"),
    ],
)
def test_what_a_placement_has_no_use_for_is_refused(servers: list[Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message) as raised:
        servers[0].stub.Retrieve(RetrieveRequest(session=Session(), k=3, **given))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_rules_of_a_placement_apply_to_similar_items(servers: list[Any], shop: Settings) -> None:
    of, pin = genres(servers[0]), last_drama(shop)

    def similar(**given: Any) -> Any:
        return servers[0].stub.SimilarItems(SimilarItemsRequest(item_ids=["3"], **given))

    plain = [int(item.item_id) for item in similar(k=60).items]
    answer = similar(k=6, placement="product")
    found = [int(item.item_id) for item in answer.items]
    dramas = [item for item in plain if "Drama" in of[item] and item != pin]
    assert found == [dramas[0], pin, *dramas[1:5]]
    assert [item.source for item in answer.items] == ["similar", "pin", *["similar"] * 4]
    assert (answer.placement, answer.policy_version, answer.yielded_caps) == ("product", 1, [])
    cosines = {item.item_id: item.cosine for item in similar(k=60).items}
    assert [item.cosine for item in answer.items] == pytest.approx([cosines[str(item)] for item in found], abs=1e-6)
    assert [t.stage for t in answer.timings] == ["encode", "filter", "search", "rules"]
    with pytest.raises(grpc.RpcError, match="placement: there is no 'lobby'"):
        similar(k=1, placement="lobby")
