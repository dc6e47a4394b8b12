"""One table for all re-rankers: the retriever first, paired differences, the share of the bound."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rf_training.evaluation.sequences import Split
from rf_training.rerank import Ranker, RerankConfig, make_ranker
from rf_training.rerank.cases import RerankCases, make_cases
from rf_training.rerank.comparison import Comparison, compare_rerankers, comparison_markdown
from rf_training.rerank.quality import METRICS, measure
from rf_training.rerank.ranker import DOT
from rf_training.rerank.scoring import item_states
from rf_training.rerank.towers import Towers


def ranker(kind: str, seed: int = 0) -> Ranker:
    torch.manual_seed(seed)
    made = make_ranker(RerankConfig(kind=kind, links=4, width=8, hidden=8), 16).eval()
    for name, weight in made.named_parameters():
        if name == "score.weight":
            torch.nn.init.normal_(weight)
    return made


@pytest.fixture(scope="module")
def cases(towers: Towers) -> RerankCases:
    return make_cases(towers, Split.TEST, seed=0)


@pytest.fixture(scope="module")
def found(towers: Towers, cases: RerankCases) -> Comparison:
    rankers = {DOT: ranker("dot"), "a": ranker("lime-mha"), "full": ranker("target-attention")}
    return compare_rerankers("r", towers, cases, rankers, seed=0, resamples=50)


def test_rows_are_the_means_and_paired_differences(found: Comparison, towers: Towers, cases: RerankCases) -> None:
    dot, lime, full = found.rows
    assert [row.name for row in found.rows] == [DOT, "a", "full"]
    assert dot.differences is None
    assert lime.differences is not None
    mine = ranker("lime-mha")
    want = measure(mine, item_states(mine, towers.unit_ND), cases)
    for name in METRICS:
        assert lime.metrics[name].value == pytest.approx(want.mean(name))
        assert lime.differences[name].value == pytest.approx(lime.metrics[name].value - dot.metrics[name].value)
        assert lime.metrics[name].low <= lime.metrics[name].value <= lime.metrics[name].high
    assert lime.of_bound is not None
    assert lime.of_bound.value == pytest.approx(lime.metrics["auc"].value / full.metrics["auc"].value)
    assert full.of_bound is not None
    assert (full.of_bound.low, full.of_bound.high) == (1.0, 1.0)


def test_the_split_and_what_was_found_are_told(found: Comparison, cases: RerankCases) -> None:
    assert (found.split, found.cases) == ("test", len(cases))
    missed = replace(cases, rank_P=np.where(np.arange(len(cases)) < 6, 5000, cases.rank_P))
    assert missed.found(1000) == pytest.approx(1 - 6 / len(cases))


def test_markdown_has_a_line_for_each(found: Comparison, tmp_path: Path) -> None:
    text = comparison_markdown(found)
    assert "24 test targets" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert len({line.count("|") for line in lines}) == 1
    assert f"| {DOT} | {found.rows[0].metrics['recall@5'].value:.4f} [" in text
