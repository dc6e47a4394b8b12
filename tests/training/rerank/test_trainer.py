"""Training: a lower loss, a signal that the dot product lacks, the same weights again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rf_platform.errors import RunError
from rf_training.evaluation.sequences import Split
from rf_training.rerank import Ranker, RerankConfig, make_ranker
from rf_training.rerank.cases import Candidates, RerankCases, make_cases
from rf_training.rerank.examples import Examples, make_view, training_positions
from rf_training.rerank.quality import SELECTION
from rf_training.rerank.recipe import RerankTraining
from rf_training.rerank.towers import EncodedPositions, Towers
from rf_training.rerank.trainer import Clicks, ListwiseSoftmax, fit

SETTINGS = RerankTraining(places=6, hard=8, uniform=4, batch_size=32, epochs=3, patience=3, learning_rate=5e-3)


@pytest.fixture(scope="module")
def cases(towers: Towers) -> RerankCases:
    return make_cases(towers, Split.VALIDATION, seed=0)


@pytest.fixture(scope="module")
def view(towers: Towers) -> Examples:
    return make_view(towers, SETTINGS, 0.9)


def lime(kind: str = "lime-mha", dim: int = 16) -> Ranker:
    torch.manual_seed(0)
    return make_ranker(RerankConfig(kind=kind, links=4, width=8, hidden=8, dropout=0.0), dim)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_falls(towers: Towers, cases: RerankCases, view: Examples, loss: str) -> None:
    fitted = fit(lime(), towers, [view], cases, replace(SETTINGS, loss=loss))  # type: ignore[arg-type]
    losses = [each["loss"] for each in fitted.history[1:]]
    assert losses[-1] < losses[0]


def test_same_seed_same_weights_and_another_seed_others(towers: Towers, cases: RerankCases, view: Examples) -> None:
    def weights(seed: int) -> Tensor:
        ranker = lime()
        fitted = fit(ranker, towers, [view], cases, replace(SETTINGS, epochs=1, seed=seed))
        assert fitted.steps > 0
        parts = [p.flatten() for p in ranker.parameters()]
        return torch.cat([*parts, torch.tensor([fitted.history[-1]["loss"]])])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_dot_product_needs_no_training(towers: Towers, cases: RerankCases, view: Examples) -> None:
    fitted = fit(lime("dot"), towers, [view], cases, SETTINGS)
    assert (fitted.best_epoch, fitted.steps, len(fitted.history)) == (0, 0, 1)


def test_where_no_pass_beats_the_retriever_its_order_is_kept(
    towers: Towers, cases: RerankCases, view: Examples
) -> None:
    """Half of the catalog, at random, is to be preferred: noise, which is worse than the order that was there."""
    perfect = replace(cases, candidates=cases.candidates, rank_P=cases.rank_P, target_dot_P=cases.target_dot_P + 100)
    dots = perfect.candidates.dot_PK.clone()
    dots[perfect.candidates.item_PK == perfect.target_P[:, None]] += 100
    perfect = replace(perfect, candidates=Candidates(perfect.candidates.item_PK, dots))
    ranker = lime()
    before = [p.clone() for p in ranker.parameters()]
    fitted = fit(ranker, towers, [view], perfect, replace(SETTINGS, epochs=1))
    assert fitted.history[0][SELECTION] == 1.0
    assert fitted.best_epoch == 0
    assert all(torch.equal(a, b) for a, b in zip(before, ranker.parameters(), strict=True))


def test_a_loss_that_is_no_number_is_told(towers: Towers, cases: RerankCases, view: Examples) -> None:
    broken = replace(view, dot_P=torch.full_like(view.dot_P, torch.nan))
    with pytest.raises(RunError, match=r"loss of the re-ranker is nan at step 0 .*train.learning_rate=0.005"):
        fit(lime(), towers, [broken], cases, SETTINGS)


@pytest.mark.parametrize("kind", ["lime-mha", "lime-xor", "target-attention"])
def test_a_pairwise_signal_that_the_dot_product_lacks_is_learned(towers: Towers, kind: str) -> None:
    """The positive is the item that lies near the oldest of the interactions; queries say nothing, they are random."""
    torch.manual_seed(0)
    unit_ND = torch.nn.functional.normalize(torch.randn(towers.n_items, 16), dim=1)
    toy = Towers(towers.model, towers.dataset)
    toy.unit_ND, toy.vectors_NQ = unit_ND, unit_ND
    generator = torch.Generator().manual_seed(1)

    def places(count: int) -> tuple[EncodedPositions, Tensor]:
        item_PT = torch.rand(count, towers.n_items, generator=generator).argsort(1)[:, :3]
        target_P = (item_PT[:, 0] + 1) % towers.n_items
        tokens = torch.cat([unit_ND[target_P][:, None], unit_ND[item_PT[:, 1:]]], dim=1).flatten(0, 1)
        query = torch.nn.functional.normalize(torch.randn(count, 16, generator=generator), dim=1) * 0.1
        start = torch.arange(count) * 3
        return EncodedPositions(tokens, start, torch.full((count,), 3), query, query), target_P

    encoded, positive = places(600)
    hard = torch.randint(0, towers.n_items, (600, 12), generator=generator).int()
    dot_P = (encoded.query_PQ * unit_ND[positive]).sum(1)
    view = Examples(
        encoded=encoded,
        positive_P=positive,
        unit_PD=unit_ND[positive],
        dot_P=dot_P,
        hard_PH=hard,
        log_weight_PH=torch.zeros(hard.shape),
        places=600,
        strength=0.0,
        known=0.0,
    )
    held_out, target = places(24)
    template = make_cases(towers, Split.VALIDATION, seed=0)
    score = held_out.query_PQ @ unit_ND.T
    found = score.topk(20, dim=1)
    cases = replace(
        template,
        encoded=held_out,
        candidates=Candidates(found.indices.int(), found.values),
        rank_P=(1 + (score > score.gather(1, target[:, None])).sum(1)).numpy(),
        target_P=target,
        target_dot_P=score.gather(1, target[:, None])[:, 0],
    )
    fitted = fit(
        lime(kind), toy, [view], cases, replace(SETTINGS, epochs=12, patience=12, batch_size=64, learning_rate=1e-2)
    )
    first, best = fitted.history[0], fitted.history[fitted.best_epoch]
    assert best[SELECTION] > first[SELECTION] + 0.1
    assert best["candidate auc"] > 0.8 > 0.65 > first["candidate auc"]


def test_losses_by_hand() -> None:
    """e^0 stands for one candidate, and then for two; the third one is none."""
    score = torch.tensor([[1.0, 0.0, 5.0]])
    none = -torch.inf
    assert ListwiseSoftmax()(score, torch.tensor([[0.0, 0.0, none]])).item() == pytest.approx(0.3132617)
    twice = torch.tensor([[0.0, math.log(2), none]])
    assert ListwiseSoftmax()(score, twice).item() == pytest.approx(math.log(1 + 2 / math.e))
    assert Clicks()(score, twice).item() == pytest.approx(0.3132617 + 0.6931472)


def test_sampled_losses_estimate_those_over_all_candidates(towers: Towers) -> None:
    """The mean over draws of the weighted sum over the drawn negatives is the sum over all of them."""
    _, positive = training_positions(towers.dataset, 1)
    total, whole = 0.0, None
    for number in range(60):
        view = make_view(towers, replace(SETTINGS, places=1, leave_out=False, hard=10), 1.0, number)
        sequences = towers.dataset.sequences
        score_PN = view.encoded.query_PQ @ towers.vectors_NQ.T
        drawn = score_PN.gather(1, view.hard_PH.long()).exp() * view.log_weight_PH.exp()
        total += float(drawn.sum(1)[0])
        if whole is None:
            had = np.asarray(sequences.item[: int(towers.dataset.training_counts.of_user[0]) - 1])
            others = np.setdiff1d(np.arange(towers.n_items), [*had, int(positive[0])])
            whole = float(score_PN[0, torch.from_numpy(others)].exp().sum())
    assert total / 60 == pytest.approx(whole, rel=0.1)
