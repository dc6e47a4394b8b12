from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from rf_platform.dataset import Dataset
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import ExactIndex, Found, HnswIndex, VectorIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.search.costs import SearchCosts
from rf_serving.search.depths import depths
from rf_serving.search.eligibility import Eligible, Passing
from rf_serving.search.index_scorer import LIST_LENGTH, IndexScorer
from rf_serving.search.searcher import Search, Searcher
from rf_training.evaluation import EvaluationCases, Split, rank_targets
from rf_training.evaluation.reach import top_unseen
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer

K = 5


class Forgetful(ExactIndex):
    """Finds every second row only, and never more than it is told to."""

    kind: ClassVar[str] = "forgetful"
    exact: ClassVar[bool] = False
    most: ClassVar[int] = 1000
    asked: ClassVar[list[int]] = []

    def search(self, queries_BD: Any, k: int) -> Found:
        self.asked.append(k)
        found = super().search(queries_BD, k)
        rows = np.where(found.rows % 2 == 0, found.rows, NO_ROW)
        rows[:, self.most :] = NO_ROW
        return Found(rows=rows, scores=found.scores)


@pytest.fixture(scope="module")
def exact(model: RetrievalFormer, dataset: Dataset) -> ModelScorer:
    return ModelScorer(model, dataset)


@pytest.fixture(scope="module")
def cases(dataset: Dataset) -> EvaluationCases:
    return EvaluationCases.from_sequences(dataset.sequences, n_items=len(dataset.item_ids), split=Split.TEST)


def through(exact: ModelScorer, kind: type[VectorIndex], k: int = K) -> IndexScorer:
    return IndexScorer(exact, kind.build(exact.vectors_ND.numpy()), k)


def catalog_of(exact: ModelScorer, index: VectorIndex) -> CatalogSnapshot:
    """Return as much of a catalog as searching looks at."""
    vectors = exact.vectors_ND.numpy()
    rows = len(vectors)
    base = BaseSegment(
        path=Path(),
        schema=cast(Any, None),
        ids=range(rows),
        row_of={},
        index=index,
        vectors_ND=vectors,
        tokens_ND=exact.history_tokens(np.arange(rows)).numpy(),
        read_items=cast(Any, None),
    )
    return CatalogSnapshot(
        bundle=cast(Any, None), base=base, sequence=0, live_mask_N=np.ones(rows, np.bool_), alive=rows, alive_base=rows
    )


@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex, Forgetful])
def test_it_returns_what_a_request_would(exact: ModelScorer, cases: EvaluationCases, kind: type[VectorIndex]) -> None:
    """The stages of the server, one user after the other."""
    scorer = through(exact, kind)
    histories = cases.histories(0, len(cases))
    scores = scorer.scores(cases.users, histories)
    catalog = catalog_of(exact, kind.build(exact.vectors_ND.numpy()))
    searcher = Searcher(SearchCosts(gathered=1e-9, scanned=1e-9, index=((100, 1e-6),)))
    queries_BD = exact.queries(cases.users, histories.lengths).numpy()
    for user, top in enumerate(top_unseen(scores, histories, K)):
        seen = histories.values[histories.row_of_value == user].astype(np.int64)
        everything = Eligible(Passing(catalog.live_mask_N))
        search = Search(query_D=queries_BD[user], k=K, eligible=everything, seen=seen, filtered=False)
        answer = searcher.find(catalog, [search])[0].found
        assert sorted(top) == sorted(answer.rows)
        np.testing.assert_allclose(scores[user, answer.rows], answer.scores, atol=1e-6)


def test_an_exact_index_ranks_like_the_model(exact: ModelScorer, cases: EvaluationCases) -> None:
    scorer = through(exact, ExactIndex, LIST_LENGTH)
    ours, theirs = rank_targets(scorer, cases, seed=0), rank_targets(exact, cases, seed=0)
    behind = LIST_LENGTH + 1  # where the order is up to chance
    for found, truth in ((ours.kept, theirs.kept), (ours.excluded, theirs.excluded)):
        assert np.minimum(found, behind).tolist() == np.minimum(truth, behind).tolist()
        assert (truth < behind).sum() > 10  # else nothing is shown


def test_what_is_not_found_is_behind_the_list(exact: ModelScorer, cases: EvaluationCases) -> None:
    scores = through(exact, ExactIndex).scores(cases.users, cases.histories(0, len(cases)))
    histories = cases.histories(0, len(cases))
    distinct = [len(set(histories.values[histories.row_of_value == user].tolist())) for user in range(len(cases))]
    assert (scores > -np.inf).sum(axis=1).tolist() == [min(depths(K, count)[0], scores.shape[1]) for count in distinct]


def test_each_request_asks_for_its_own_seen_items(exact: ModelScorer, cases: EvaluationCases) -> None:
    histories = cases.histories(0, len(cases))
    Forgetful.asked.clear()
    through(exact, Forgetful).scores(cases.users, histories)
    wanted = {depth for length in histories.lengths.tolist() for depth in depths(K, length)}
    assert Forgetful.asked == [min(depth, len(exact.vectors_ND)) for depth in sorted(wanted)]


@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex, Forgetful])
def test_items_that_are_not_recommendable_are_not_found(
    exact: ModelScorer, cases: EvaluationCases, kind: type[VectorIndex]
) -> None:
    """As a server finds: the list has as many others as without them, and they cost it no place."""
    hidden = np.zeros(len(exact.vectors_ND), np.bool_)
    hidden[::3] = True
    scorer = IndexScorer(_Hiding(exact, hidden), kind.build(exact.vectors_ND.numpy()), K)
    histories = cases.histories(0, len(cases))
    scores = scorer.scores(cases.users, histories)
    live = catalog_of(exact, kind.build(exact.vectors_ND.numpy()))
    catalog = replace(live, live_mask_N=~hidden, alive=int((~hidden).sum()), alive_base=int((~hidden).sum()))
    searcher = Searcher(SearchCosts(gathered=1e-9, scanned=1e-9, index=((100, 1e-6),)))
    queries_BD = exact.queries(cases.users, histories.lengths).numpy()
    for user, top in enumerate(top_unseen(np.where(hidden, np.float32(-np.inf), scores), histories, K)):
        seen = histories.values[histories.row_of_value == user].astype(np.int64)
        search = Search(query_D=queries_BD[user], k=K, eligible=Eligible(Passing(~hidden)), seen=seen, filtered=False)
        assert sorted(top) == sorted(searcher.find(catalog, [search])[0].found.rows)
    truth = exact.scores(cases.users, histories)
    np.testing.assert_allclose(scores[:, hidden], truth[:, hidden], atol=1e-6)  # for a case that asks for one


class _Hiding(ModelScorer):
    """The same model, of a catalog of which some items are not recommendable."""

    def __init__(self, of: ModelScorer, hidden: Any) -> None:
        self.__dict__.update(of.__dict__)
        self._hidden = hidden

    @property
    def sequences(self) -> Any:
        return replace(super().sequences, hidden=self._hidden)


def test_too_few_found_leads_to_a_scan(
    exact: ModelScorer, cases: EvaluationCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forgetful, "most", 3)
    histories = cases.histories(0, len(cases))
    scores = through(exact, Forgetful).scores(cases.users, histories)
    np.testing.assert_allclose(scores, exact.scores(cases.users, histories), atol=1e-6)


def test_its_name_tells_the_index(exact: ModelScorer) -> None:
    assert through(exact, HnswIndex).name == "RetrievalFormer (hnsw)"
