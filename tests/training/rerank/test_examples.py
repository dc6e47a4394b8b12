"""Training examples: latest training events, what the retriever returns there, and the event's own share taken out."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from rf_platform.dataset.dataset import TRAIN
from rf_training.rerank.examples import find_strength, left_out, make_view, training_positions
from rf_training.rerank.recipe import RerankTraining
from rf_training.rerank.towers import Towers
from rf_training.rerank.trainer import Steps

SETTINGS = RerankTraining(places=3, hard=5, uniform=4, batch_size=7)


def test_places_are_the_latest_training_events_and_nothing_held_out(towers: Towers) -> None:
    sequences = towers.dataset.sequences
    places, positive = training_positions(towers.dataset, 3)
    event = np.asarray(sequences.offsets)[places.user] + places.length
    assert (np.asarray(sequences.split)[event] == TRAIN).all()
    assert (places.length > 0).all()
    assert positive.tolist() == np.asarray(sequences.item)[event].tolist()
    for user in range(len(sequences.offsets) - 1):
        counted = int(towers.dataset.training_counts.of_user[user])
        assert places.length[places.user == user].tolist() == list(range(max(1, counted - 3), counted))


def test_held_out_events_have_no_part_in_the_examples(towers: Towers) -> None:
    """Other validation and test targets give the same places, tokens, queries, positives and negatives."""
    sequences = towers.dataset.sequences
    held_out = np.asarray(sequences.split) != TRAIN
    item = np.array(sequences.item)
    item[held_out] = (item[held_out] + 7) % towers.n_items
    # Both encode what they need anew: sums of other items beside them may differ in their last bit.
    same, other = Towers(towers.model, towers.dataset), Towers(towers.model, towers.dataset)
    other.dataset = replace(towers.dataset)
    other.dataset.__dict__["sequences"] = replace(sequences, item=item)
    mine, theirs = (make_view(each, SETTINGS, 0.2) for each in (same, other))
    for name in ("positive_P", "unit_PD", "dot_P", "hard_PH", "log_weight_PH"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert torch.equal(mine.encoded.tokens_VD, theirs.encoded.tokens_VD)
    assert torch.equal(mine.encoded.query_PQ, theirs.encoded.query_PQ)


def test_hard_negatives_are_returned_there_and_neither_seen_nor_the_positive(towers: Towers) -> None:
    sequences = towers.dataset.sequences
    places, positive = training_positions(towers.dataset, 3)
    view = make_view(towers, SETTINGS, 1.0)
    begin = np.asarray(sequences.offsets)
    for row in range(len(view)):
        first = begin[places.user[row]]
        had = set(np.asarray(sequences.item[first : first + places.length[row]]).tolist())
        drawn = view.hard_PH[row].tolist()
        assert len(set(drawn)) == 5
        assert not set(drawn) & (had | {int(positive[row]), -1})


def test_better_candidates_are_drawn_more_often(towers: Towers) -> None:
    drawn = np.zeros(towers.n_items)
    for number in range(8):
        view = make_view(towers, SETTINGS, 1.0, number)
        score_PN = view.encoded.query_PQ @ towers.vectors_NQ.T
        rank_PN = (-score_PN).argsort(1).argsort(1)
        drawn += np.bincount(rank_PN.gather(1, view.hard_PH.long()).flatten(), minlength=towers.n_items)
    assert drawn[:8].sum() > 1.5 * drawn[-20:-8].sum()


def test_leaving_an_event_out_turns_its_item_away_from_its_query_the_more_the_rarer_it_is() -> None:
    unit = F.normalize(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), dim=1)
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    out = left_out(unit, query, torch.tensor([1.0, 4.0]), 0.5)
    want = F.normalize(unit - torch.tensor([[0.5, 0.0], [0.125, 0.0]]), dim=1)
    assert torch.allclose(out, want)
    assert out[0, 0] < out[1, 0] < unit[0, 0]


def test_the_strength_makes_training_events_as_hard_as_those_to_come() -> None:
    torch.manual_seed(0)
    query = F.normalize(torch.randn(400, 8), dim=1)
    unit = F.normalize(torch.randn(400, 8) + query, dim=1)
    events, bar, bias = torch.randint(1, 9, (400,)).float(), torch.full((400,), 0.5), torch.zeros(400)
    before = float(((unit * query).sum(1) > bar).float().mean())
    strength = find_strength(unit, bias, query, events, bar, 0.25)
    after = float(((left_out(unit, query, events, strength) * query).sum(1) > bar).float().mean())
    assert before > 0.3
    assert 0.23 < after <= 0.25
    assert find_strength(unit, bias, query, events, bar, before) == 0.0


def test_without_leaving_out_positives_are_as_the_retriever_has_them(towers: Towers) -> None:
    as_trained = make_view(towers, replace(SETTINGS, leave_out=False), 0.0)
    assert as_trained.strength == 0
    assert torch.allclose(as_trained.unit_PD, towers.unit_ND[as_trained.positive_P])
    own = (as_trained.encoded.query_PQ * towers.vectors_NQ[as_trained.positive_P]).sum(1)
    assert torch.allclose(as_trained.dot_P, own, atol=1e-6)


def test_batches_cover_a_pass_once_and_put_the_positive_first(towers: Towers) -> None:
    view = make_view(towers, SETTINGS, 1.0)
    steps = Steps(towers, SETTINGS)
    batches = list(steps.batches(view, 0))
    rows = torch.cat([batch.row_B for batch in batches])
    assert sorted(rows.tolist()) == list(range(len(view)))
    for batch in batches:
        assert torch.equal(batch.item_BC[:, 0], view.positive_P[batch.row_B])
        assert batch.item_BC.shape[1] == 1 + 5 + 4
        assert (batch.log_weight_BC[:, 0] == 0).all()
        again = batch.item_BC[:, 1:] == batch.item_BC[:, :1]
        assert (batch.log_weight_BC[:, 1:].isneginf() == again).all()
    repeated = list(steps.batches(view, 0))
    assert all(torch.equal(a.item_BC, b.item_BC) for a, b in zip(batches, repeated, strict=True))
    assert not all(torch.equal(a.row_B, b.row_B) for a, b in zip(batches, steps.batches(view, 1), strict=True))
