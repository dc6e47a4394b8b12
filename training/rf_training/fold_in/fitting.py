"""Rule of evidence of a model: its population of users, and the weight of an item's content against its first users.

The weight is chosen by the validation targets with items that training never met. Each is left out in turn: its item moves by the
item's other targets, and the weight under which the left-out users are the most likely fits the data set. Where content says
much of an item it weighs more, where it says little, less.

Shapes: T targets, P weights, N items, Q queries of the population, D width.
"""

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.dataset import Dataset
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split
from rf_training.fold_in.population import held_out_queries, queries_of
from rf_training.fold_in.rule import POPULATION, PRIOR, Evidence, Floats, FoldIn, unit
from rf_training.model_scorer import ModelScorer

PRIORS = (PRIOR, 3.0, 5.0, 8.0, 13.0, 20.0)
"""Weights that are tried: whatever validation says, a single user weighs at most half as much as content."""
FEWEST = 100
"""Fewest targets that choose; below that :data:`~rf_training.fold_in.rule.PRIOR` stays."""
MOST = 500
"""Most targets that are looked at."""
SURE = 2.0
"""Standard errors by which another weight must be better."""


def fold_in_of(scorer: ModelScorer, dataset: Dataset, temperature: float) -> FoldIn:
    """Return the rule of evidence of a model.

    Args:
        scorer: the model.
        dataset: that it was trained on.
        temperature: that it was trained with.
    """
    trained_ND = scorer.unit_vectors.cpu().numpy()[dataset.trained_items]
    width = trained_ND.shape[1]
    until_us = int(np.max(dataset.sequences.timestamp, initial=0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on their number, and equal models are to have equal rules
    try:
        queries_QD = held_out_queries(scorer, dataset, POPULATION)[:, :width]
        rule = FoldIn.of(queries_QD, trained_ND, temperature, until_us)
        return rule.with_prior(_prior(scorer, dataset, rule))
    finally:
        torch.set_num_threads(threads)


def _prior(scorer: ModelScorer, dataset: Dataset, rule: FoldIn) -> float:
    cases = EvaluationCases.from_sequences(
        dataset.sequences, n_items=dataset.n_items, split=Split.VALIDATION, trained=dataset.trained_items
    )
    several_N = np.bincount(cases.targets, minlength=cases.n_items) > 1
    chosen = np.flatnonzero(cases.cold & several_N[cases.targets])
    if len(chosen) < FEWEST:
        return PRIOR
    width = rule.query_QD.shape[1]
    query_TD = unit(queries_of(scorer, cases.users[chosen], (cases.stops - cases.starts)[chosen])[:, :width])
    return best_prior(rule, scorer.unit_vectors.cpu().numpy(), cases.targets[chosen], query_TD)


def best_prior(rule: FoldIn, built_ND: Floats, target_T: npt.NDArray[np.int64], query_TD: Floats) -> float:
    """Return the weight that makes left-out users the most likely, if it is surely better than the default.

    Args:
        rule: of the model, with any weight.
        built_ND: unit vectors of all items, from content.
        target_T: item of each target, each item with two targets at least.
        query_TD: unit query vector of its user just before.
    """
    said = Evidence.gather(target_T, np.arange(len(target_T)), query_TD, len(built_ND))
    looked = np.unique(np.linspace(0, len(target_T) - 1, min(MOST, len(target_T))).astype(np.int64))
    item_T, left_TD = target_T[looked], query_TD[looked]
    others = Evidence(said.sum_ND[item_T] - left_TD, said.count_N[item_T] - 1)
    none_T = np.zeros(len(looked), np.int64)
    likely_PT = np.stack(
        [
            rule.log_likelihood(rule.with_prior(prior).moved(built_ND[item_T], none_T, others), left_TD)
            for prior in PRIORS
        ]
    )
    gain_PT = likely_PT - likely_PT[PRIORS.index(PRIOR)]
    best = int(np.argmax(gain_PT.mean(axis=1)))
    error = gain_PT[best].std() / np.sqrt(len(looked))
    return PRIORS[best] if gain_PT[best].mean() > SURE * error else PRIOR
