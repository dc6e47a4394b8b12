"""The trade-off of goals: its points by hand, and its place in a run's report."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training.evaluation import Split
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.rendering import section_markdown
from rf_training.goal_curve import WEIGHTS, goal_curve
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer
from rf_training.report.goal_charts import goal_charts
from rf_training.targets.event_types import EventTypes

MODEL = ModelConfig(dim=16, max_history=6, goals=True)


@pytest.fixture(scope="module")
def scorer(typed: Dataset) -> ModelScorer:
    torch.manual_seed(0)
    model = RetrievalFormer(MODEL, typed.encoder)
    assert model.goals is not None
    torch.nn.init.normal_(model.goals.goal_GD)
    return ModelScorer(model, typed)


def test_points_are_the_metrics_of_each_mixture_on_the_targets_of_each_type(
    typed: Dataset, scorer: ModelScorer
) -> None:
    curve = goal_curve(scorer, typed, Split.VALIDATION, seed=0)
    assert curve is not None
    cases = EvaluationCases.from_sequences(typed.sequences, n_items=typed.n_items, split=Split.VALIDATION)
    types = EventTypes.of(typed)
    assert types is not None
    codes = types.codes(cases.stops)
    assert curve.targets == {"view": int((codes == 1).sum()), "purchase": int((codes == 0).sum())}
    assert len(curve.points) == 1 + len(WEIGHTS)
    assert curve.points[0].goals == {}
    assert curve.points[2].goals == {"view": 0.75, "purchase": 0.25}
    assert curve.points[-1].goals == {"purchase": 1.0}
    for point in curve.points:
        asked = scorer.asking(point.goals, "t") if point.goals else scorer
        ranks = rank_targets(asked, cases, seed=0).excluded
        for code, name in enumerate(types.names):
            found = (ranks[codes == code] <= 20).mean()
            assert point.metrics[name]["recall@20"].value == pytest.approx(found)
    page = section_markdown(curve.section())
    assert "| view 0.75, purchase 0.25 |" in page
    assert "| no goal asked |" in page
    (chart,) = goal_charts(curve.to_dict())
    assert chart.name == "goals-purchase"
    assert "NDCG@20, purchase targets" in chart.svg


def test_there_is_no_curve_without_goals_or_with_targets_of_one_type(typed: Dataset, scorer: ModelScorer) -> None:
    plain = ModelScorer(RetrievalFormer(replace(MODEL, goals=False), typed.encoder), typed)
    assert goal_curve(plain, typed, Split.TEST, seed=0) is None
    cases = EvaluationCases.from_sequences(typed.sequences, n_items=typed.n_items, split=Split.TEST)
    types = EventTypes.of(typed)
    assert types is not None
    if len(np.unique(types.codes(cases.stops))) == 1:
        assert goal_curve(scorer, typed, Split.TEST, seed=0) is None
