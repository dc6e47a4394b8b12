"""Answers by rules: those that the words of the policy give, on random catalogs, policies and requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf_platform.features.expiry import now_us
from rf_platform.policies import Policy, SeenRule
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.policies import CompiledPlacement, CompiledPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query
from rf_serving.search.written import predicate_of
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import SeenEvents, UserFeatures

GENRES, YEAR = "item_attributes__genres", "item_attributes__release_year"


@dataclass
class Fixed:
    """A catalog that does not change."""

    snapshot: CatalogSnapshot


@dataclass(repr=False)
class World:
    """Engines over the catalog of a bundle, and what its items are."""

    bundle: ServedBundle
    engine: Engine
    genres: dict[str, list[str]]
    years: dict[str, int]

    def rules(self, **placement: Any) -> CompiledPlacement:
        policy = Policy.model_validate({"placements": {"home": placement}})
        found = CompiledPolicy.compile(policy, self.bundle.spec, 7).placement("home")
        assert found is not None
        return found

    def without(self, dead: Sequence[int]) -> None:
        """Let the engine have the catalog without some rows."""
        whole = CatalogSnapshot.of(self.bundle)
        mask_N = whole.live_mask_N.copy()
        mask_N[list(dead)] = False
        alive = int(mask_N.sum())
        self.engine.catalog = Fixed(replace(whole, live_mask_N=mask_N, alive=alive, alive_base=alive))

    def answer(self, history: Sequence[int], k: int, rules: CompiledPlacement | None = None, **query: Any) -> Answer:
        session = Session(history=[Interaction(item_id=str(item)) for item in history])
        asked = Query(subject=session, k=k, exclude_seen=True, **query)
        return self.engine.rank(None, asked, StageTimer(lambda *_: None), rules=rules)

    def passes(self, item: str, condition: str) -> bool:
        name, _, value = condition.partition("=")
        return self.years[item] >= int(value) if name == f"{YEAR}>" else value in self.genres[item]


@pytest.fixture(scope="module")
def world(tiny: ServedBundle) -> World:
    items = CatalogSnapshot.of(tiny).base.items.to_pylist()
    return World(
        tiny,
        Engine(tiny),
        {str(each["item_id"]): each[GENRES] for each in items},
        {str(each["item_id"]): each[YEAR] for each in items},
    )


CONDITIONS = st.sampled_from(
    [f"{GENRES}=Drama", f"{GENRES}=War", f"{GENRES}=Comedy", f"{YEAR}>=1970", f"{YEAR}>=1990", f"{YEAR}>=1998"]
)
BOOSTS = st.lists(
    st.tuples(CONDITIONS, st.sampled_from([("factor", 3.0), ("factor", 0.5), ("offset", 0.4), ("offset", -2.0)])),
    max_size=2,
)
CAPS = st.lists(
    st.sampled_from(
        [
            {"feature": GENRES, "most": 1},
            {"feature": GENRES, "most": 2, "window": 4},
            {"feature": YEAR, "most": 1, "window": 3},
            {"feature": YEAR, "most": 2},
        ]
    ),
    max_size=2,
    unique_by=str,
)
PINS = st.dictionaries(st.integers(1, 60), st.integers(1, 12), max_size=3).filter(
    lambda pins: len(set(pins.values())) == len(pins)
)


@dataclass(frozen=True)
class Case:
    """A catalog, a placement and a request."""

    dead: list[int]
    history: list[int]
    k: int
    eligibility: list[str]
    asked: list[str]
    boosts: list[tuple[str, tuple[str, float]]]
    caps: list[dict[str, Any]]
    pins: dict[int, int]
    candidates: int

    def placement(self) -> dict[str, Any]:
        boosts = [{"name": f"b{i}", "where": [where], how: by} for i, (where, (how, by)) in enumerate(self.boosts)]
        pins = [{"item": item, "place": place} for item, place in self.pins.items()]
        return {
            "eligibility": self.eligibility,
            "boosts": boosts,
            "caps": self.caps,
            "pins": pins,
            "candidates": self.candidates,
        }

    def filter(self) -> Filter | None:
        return Filter(where=[predicate_of(each, "") for each in self.asked]) if self.asked else None


CASES = st.builds(
    Case,
    dead=st.lists(st.integers(0, 59), max_size=50, unique=True),
    history=st.lists(st.integers(1, 60), max_size=6),
    k=st.integers(1, 25),
    eligibility=st.lists(CONDITIONS, max_size=1),
    asked=st.lists(CONDITIONS, max_size=1),
    boosts=BOOSTS,
    caps=CAPS,
    pins=PINS,
    candidates=st.integers(1, 30),
)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def expected(world: World, case: Case) -> tuple[list[str], list[str]]:
    """Return the items, and the caps that yield, by the words of the rules."""
    ranked = world.answer(case.history, 60, filter=case.filter())
    able = {
        item: score
        for item, score in zip(ranked.items, ranked.scores, strict=True)
        if all(world.passes(item, each) for each in case.eligibility)
    }
    pins = {place: str(item) for item, place in case.pins.items() if str(item) in able and place <= case.k}
    found = len(able) if case.caps else max(case.k, case.candidates if case.boosts else case.k) + len(case.pins)
    first = [item for item in list(able)[: max(found, 0)] if item not in pins.values()]
    if case.caps:  # as many as there are, where the first ones are not enough
        few = list(able)[: max(case.k, case.candidates) + len(case.pins)]
        items, yielded, short = filled(world, case, [item for item in few if item not in pins.values()], able, True)
        if short:
            items, yielded, _ = filled(world, case, first, able, False)
    else:
        items, yielded, _ = filled(world, case, first, able, False)
    for place in sorted(pins):
        items.insert(min(place - 1, len(items)), pins[place])
    return items[: case.k], yielded


def filled(
    world: World, case: Case, items: list[str], able: dict[str, float], stop: bool
) -> tuple[list[str], list[str], bool]:
    scores = {item: able[item] for item in items}
    for where, (how, by) in case.boosts:
        for item, score in scores.items():
            if world.passes(item, where):
                scores[item] = score + by if how == "offset" else score * by if score > 0 else score / by
    waiting = sorted(items, key=lambda item: -scores[item])
    chosen: list[str] = []
    yielded: dict[str, None] = {}
    while waiting and len(chosen) < case.k:
        open_ = waiting
        for cap in case.caps:
            kept = [item for item in open_ if fits(world, cap, [*chosen, item])]
            if not kept and stop:
                return chosen, list(yielded), True
            if not kept:
                yielded[name_of(cap)] = None
            open_ = kept or open_
        chosen.append(open_[0])
        waiting.remove(open_[0])
    return chosen, list(yielded), False


def fits(world: World, cap: dict[str, Any], items: list[str]) -> bool:
    """Whether the last item of a list may stand there."""
    stretch = items[-cap["window"] :] if "window" in cap else items
    counts = Counter(value for item in stretch for value in set(values(world, cap["feature"], item)))
    return all(counts[value] <= cap["most"] for value in values(world, cap["feature"], items[-1]))


def values(world: World, feature: str, item: str) -> list[Any]:
    return world.genres[item] if feature == GENRES else [world.years[item]]


def name_of(cap: dict[str, Any]) -> str:
    return f"{cap['feature']} {cap['most']}" + (f" in {cap['window']}" if "window" in cap else "")


@pytest.mark.parametrize(
    ("seen", "hidden"),
    [
        ([], []),
        ([{}], [1, 2, 3, 4]),
        ([{"event_types": ["buy"]}], [1, 2]),
        ([{"days": 30}], [2, 3, 4]),
        ([{"event_types": ["buy"], "days": 30}], [2]),
        ([{"event_types": ["buy"], "days": 30}, {"event_types": ["view"], "days": 3}], [2, 3]),
    ],
)
def test_what_was_seen_is_hidden_by_type_and_time(world: World, seen: list[dict[str, Any]], hidden: list[int]) -> None:
    world.without([])
    day = 86_400
    now = now_us() // 1_000_000
    events = SeenEvents(
        np.array(["buy", "buy", "view", "view"], object), np.array([now - 40 * day, 0, now - 2 * day, now - 20 * day])
    )
    features = UserFeatures(items=[1, 2, 3, 4], seen=np.array([1, 2, 3, 4]), seen_events=events)

    def left_out(rules: CompiledPlacement | None, **query: Any) -> list[int]:
        asked = Query(subject=1, k=60, **query)
        found = world.engine.rank(features, asked, StageTimer(lambda *_: None), rules=rules)
        return sorted(set(range(1, 61)) - {int(item) for item in found.items})

    assert left_out(world.rules(seen=seen), exclude_seen=True) == hidden
    if seen:  # of the request, in place of the placement's
        asked = tuple(SeenRule.model_validate(each) for each in seen)
        assert left_out(world.rules(seen=[]), exclude_seen=True, seen=asked) == hidden
        assert left_out(None, exclude_seen=False, seen=asked) == hidden
    assert left_out(world.rules(), exclude_seen=True) == [1, 2, 3, 4]


@PROPERTY
@given(case=CASES)
def test_answers_are_what_the_rules_say(world: World, case: Case) -> None:
    world.without(case.dead)
    found = world.answer(case.history, case.k, world.rules(**case.placement()), filter=case.filter())
    items, yielded = expected(world, case)
    assert found.ruled is not None
    assert (found.items, list(found.ruled.yielded)) == (items, yielded)
    assert (found.placement, found.policy_version) == ("home", 7)


@PROPERTY
@given(case=CASES, trade=st.sampled_from([0.0, 0.3, 1.0]), share=st.sampled_from([0.1, 0.5]))
def test_answers_are_whole_eligible_without_doubles_and_the_same_again(
    world: World, case: Case, trade: float, share: float
) -> None:
    world.without(case.dead)
    placement = {**case.placement(), "diversity": {"lambda": trade}}
    explored = {"exploration": {"share": share, "among": [f"{YEAR}>=1960"]}}
    rules = world.rules(**placement, **explored)
    found = world.answer(case.history, case.k, rules, filter=case.filter())
    again = world.answer(case.history, case.k, rules, filter=case.filter())
    assert found.ruled is not None
    assert again.ruled is not None
    assert (found.items, found.ruled.propensities) == (again.items, again.ruled.propensities)
    whole = world.answer(case.history, 60, filter=case.filter())
    able = [item for item in whole.items if all(world.passes(item, each) for each in case.eligibility)]
    assert len(found.items) == min(case.k, len(able))
    assert len(set(found.items)) == len(found.items)
    assert set(found.items) <= set(able)
    for item, source, propensity in zip(found.items, found.ruled.sources, found.ruled.propensities, strict=True):
        assert (propensity > 0) == (source == "exploration")
        assert propensity <= 1
        assert source != "exploration" or world.years[item] >= 1960
    if trade == 1.0:
        without = world.answer(case.history, case.k, world.rules(**case.placement()), filter=case.filter())
        same = world.answer(case.history, case.k, world.rules(**placement), filter=case.filter())
        assert same.items == without.items


def test_a_factor_above_1_moves_items_up_also_where_scores_are_below_0(world: World) -> None:
    world.without([])
    below = {"name": "below", "where": [f"{YEAR}>=0"], "offset": -5.0}
    dramas = {"name": "dramas", "where": [f"{GENRES}=Drama"], "factor": 100.0}
    found = world.answer([1], 60, world.rules(boosts=[below, dramas]))
    drama = ["Drama" in world.genres[item] for item in found.items]
    assert 0 < sum(drama) < len(drama)
    assert drama == sorted(drama, reverse=True)


def test_a_batch_follows_a_placement(world: World, settings: Any, tmp_path: Any) -> None:
    from rf_platform.features.store import open_store
    from rf_serving.batch.run import BatchQuery, answer_users
    from rf_serving.batch.users import Users
    from rf_serving.retrieval.routing import Route

    world.without([])
    policy = CompiledPolicy.compile(
        Policy.model_validate({"placements": {"home": {"pins": [{"item": 5, "place": 2}]}}}), world.bundle.spec, 3
    )
    route = replace(Route.of(world.bundle, open_store(settings)), policy=policy)
    users = Users(count=2, chunks=iter([[17, 18]]))
    answer_users(route, users, BatchQuery(k=4, exclude_seen=False, placement="home"), tmp_path / "top.parquet")
    for row in pq.read_table(tmp_path / "top.parquet").to_pylist():
        assert (row["items"][1], row["sources"]) == (5, ["model", "pin", "model", "model"])
        assert row["propensities"] == [0.0] * 4
    metadata = pq.read_metadata(tmp_path / "top.parquet").metadata
    assert (metadata[b"rf.placement"], metadata[b"rf.policy_version"]) == (b"home", b"3")
