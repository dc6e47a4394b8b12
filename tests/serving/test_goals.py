"""Goals of requests: both paths of an answer, explanations, and what is refused with which words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from rf_platform.errors import UnsupportedError, UsageError
from rf_platform.policies import Placement, Policy
from rf_platform.registry import Registry
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.commands.goal_options import weighted_goals
from rf_serving.policies.compiled import CompiledPlacement, CompiledPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query, RankRequest
from rf_serving.stage_timer import StageTimer, unobserved
from rf_training.model.goals import Goals

HISTORY = Session(history=[Interaction(item_id=str(item)) for item in (3, 17, 42)])


@pytest.fixture(scope="module")
def engine(home: Path, registry: Registry) -> Engine:
    """Of a bundle with a model that knows purchases and views."""
    bundle = ServedBundle.open(registry.bundle("tiny-run-1").path)
    torch.manual_seed(1)
    bundle.model.goals = Goals(("purchase", "view"), bundle.model.config.dim)
    torch.nn.init.normal_(bundle.model.goals.goal_GD)
    return Engine(bundle)


def query(goals: Mapping[str, float], *, explain: bool = False) -> Query:
    return Query(subject=HISTORY, k=10, exclude_seen=True, goals=goals, explain=explain)


def test_both_paths_answer_requests_with_and_without_goals_alike(engine: Engine) -> None:
    queries = [query(goals) for goals in ({}, {"purchase": 1}, {"view": 2}, {"purchase": 1, "view": 1})]
    quick = [each.answer() for each in engine.rank_quick([(each, None) for each in queries])]  # type: ignore[union-attr]
    asks = [RankRequest(query=each, watch=StageTimer(unobserved), features=None) for each in queries]
    found: list[Any] = engine.rank_many(asks)
    for one, other in zip(quick, found, strict=True):
        assert one.items == other.items
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    none, purchase, view, even = quick
    assert purchase.items != view.items
    assert even.scores == pytest.approx(none.scores)  # both goals alike are the model's own shares here
    for wrong, kind in (({"buy": 1.0}, UsageError), ({"view": 0.0}, UsageError)):
        quick_error, right = engine.rank_quick([(query(wrong), None), (queries[1], None)])
        (error,) = engine.rank_many([RankRequest(query=query(wrong), watch=StageTimer(unobserved), features=None)])
        assert isinstance(quick_error, kind)
        assert str(quick_error) == str(error)
        assert right.answer().items == purchase.items  # type: ignore[union-attr]


def test_an_explanation_is_of_the_score_for_the_goal(engine: Engine) -> None:
    """The first event moves the first item by the difference of the scores with and without it, both asked for that goal."""
    (answer,) = engine.rank_many(
        [RankRequest(query=query({"purchase": 1}, explain=True), watch=StageTimer(unobserved), features=None)]
    )
    ranked: Any = getattr(answer, "ranked", None)
    (explanation, *_) = engine.explainer.explain(ranked.known, ranked.catalog, ranked.rows_K)
    moved = {reason.event.position: reason.contribution for reason in explanation.reasons if reason.HasField("event")}
    assert moved
    place, contribution = next(iter(moved.items()))
    others = [each for number, each in enumerate(HISTORY.history) if number != place]
    less = Query(subject=Session(history=others), k=60, exclude_seen=False, goals={"purchase": 1})
    (without,) = engine.rank_many([RankRequest(query=less, watch=StageTimer(unobserved), features=None)])
    scores = dict(zip(without.items, without.scores, strict=True))  # type: ignore[union-attr]
    assert answer.scores[0] - scores[answer.items[0]] == pytest.approx(contribution, abs=1e-5)  # type: ignore[union-attr]


def test_a_bundle_without_goals_says_so(stub: Any, home: Path, registry: Registry) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Retrieve(RetrieveRequest(session=HISTORY, k=3, goals={"purchase": 1.0}))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "goals: the model of this bundle has none; leave them out" in str(caught.value.details())
    plain = Engine(ServedBundle.open(registry.bundle("tiny-run-1").path))
    with pytest.raises(UnsupportedError, match="the model of this bundle has none"):
        raise plain.rank_quick([(query({"view": 1}), None)])[0]  # type: ignore[misc]


def test_goals_on_the_command_line() -> None:
    assert weighted_goals(["purchase=3", "view"]) == {"purchase": 3.0, "view": 1.0}
    for texts, message in (
        (["purchase=many"], "--goal 'purchase=many': write TYPE or TYPE=WEIGHT"),
        (["=3"], "--goal '=3': write"),
        (["view=nan"], "--goal 'view=nan': write"),
        (["view", "view=2"], "--goal 'view=2': view is given a second time"),
    ):
        with pytest.raises(UsageError) as caught:
            weighted_goals(texts)
        assert str(caught.value).startswith(message)


def test_a_placement_asks_for_its_goals(engine: Engine) -> None:
    def placement(goals: dict[str, float]) -> CompiledPlacement:
        policy = Policy(placements={"cart": Placement(goals=goals)})
        found = CompiledPolicy.compile(policy, engine.bundle.spec, goals=engine.bundle.goals).placement("cart")
        assert found is not None
        return found

    def ranked(query: Query, rules: CompiledPlacement | None) -> Any:
        return engine.rank_many([RankRequest(query=query, watch=StageTimer(unobserved), features=None, rules=rules)])[0]

    buying = placement({"purchase": 1})
    assert ranked(query({}), buying).items == ranked(query({"purchase": 1}), None).items
    assert (
        ranked(query({"view": 1}), buying).items == ranked(query({"view": 1}), None).items
    )  # the request's word counts
    with pytest.raises(UsageError, match=r"placements.cart.goals: 'buy' is no goal of the model; "):
        placement({"buy": 1})
    with pytest.raises(UsageError, match=r"placements.cart.goals: the model has none; leave them out"):
        CompiledPolicy.compile(Policy(placements={"cart": Placement(goals={"buy": 1})}), engine.bundle.spec)
