"""What is left out is never missed: the search behind the filter may fall short."""

from pathlib import Path

import numpy as np
import pytest

from rf_serving.bundle.served import ServedBundle
from rf_serving.index import Found
from rf_serving.retrieval.filter import Filter
from rf_serving.retrieval.searcher import Searcher


@pytest.fixture(scope="module")
def bundle(home: Path) -> ServedBundle:
    return ServedBundle.open(home / "bundles" / "tiny-run-1")


NOTHING = np.zeros(0, np.int64)


def best(bundle: ServedBundle, query: np.ndarray, excluded: list[int]) -> list[int]:
    order = np.argsort(-(bundle.vectors_ND @ query))
    return [int(row) for row in order if row not in excluded]


def test_excluded_rows_are_dropped(bundle: ServedBundle) -> None:
    query = np.array(bundle.vectors_ND[5])
    excluded = best(bundle, query, [])[:4]
    found = Searcher(bundle).search(query, 10 + 4)
    kept = Filter(bundle).filter(query, found, np.sort(excluded), 10)
    assert kept.rows.tolist() == best(bundle, query, excluded)[:10]
    np.testing.assert_allclose(kept.scores, (bundle.vectors_ND @ query)[kept.rows], atol=1e-6)


def test_too_few_candidates_lead_to_a_scan(bundle: ServedBundle) -> None:
    query = np.array(bundle.vectors_ND[5])
    rows = np.array([5, -1, -1, -1])  # as an approximate index may answer
    found = Found(rows=rows, scores=np.array([1.0, -3e38, -3e38, -3e38], np.float32))
    excluded = np.array([5, 6])
    kept = Filter(bundle).filter(query, found, excluded, 58)
    assert kept.rows.tolist() == best(bundle, query, [5, 6])
    assert len(kept.rows) == 58
    kept = Filter(bundle).filter(query, found, NOTHING, 4)
    assert kept.rows.tolist() == best(bundle, query, [])[:4]


def test_no_scan_when_nothing_more_is_eligible(bundle: ServedBundle) -> None:
    query = np.array(bundle.vectors_ND[5])
    found = Found(rows=np.array([5, 7]), scores=np.array([0.9, 0.1], np.float32))
    excluded = np.array([row for row in range(60) if row not in (5, 7)])
    kept = Filter(bundle).filter(query, found, excluded, 10)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.1])  # what was found, not what a scan would score


def test_everything_excluded_gives_nothing(bundle: ServedBundle) -> None:
    query = np.array(bundle.vectors_ND[5])
    found = Searcher(bundle).search(query, 60)
    assert len(Filter(bundle).filter(query, found, np.arange(60), 5).rows) == 0
