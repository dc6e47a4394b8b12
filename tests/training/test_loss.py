"""InfoNCE with log-Q correction (R9)."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from rf_training.loss import info_nce


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def no_hits(queries: int, candidates: int) -> torch.Tensor:
    return torch.zeros(queries, candidates, dtype=torch.bool)


def test_without_correction_it_is_cross_entropy() -> None:
    torch.manual_seed(0)
    x, y, target = unit(5, 4), unit(7, 4), torch.tensor([0, 6, 3, 3, 1])
    terms = info_nce(x, y, target, no_hits(5, 7), torch.zeros(7), 0.1)
    torch.testing.assert_close(terms.loss, F.cross_entropy(x @ y.T / 0.1, target))


def test_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    terms = info_nce(x, y, torch.tensor([0]), no_hits(1, 2), torch.log(torch.tensor([9.0, 3.0])), 1.0)
    # The positive counts once whatever its weight; the negative three times.
    assert math.isclose(terms.loss.item(), math.log(math.e + 3) - 1, rel_tol=1e-6)
    assert terms.alignment.item() == 0
    assert math.isclose(terms.uniformity.item(), math.log((1 + math.exp(-4)) / 2), rel_tol=1e-6)


def test_accidental_hits_carry_no_loss_and_no_gradient() -> None:
    torch.manual_seed(0)
    x, y, target = unit(2, 4), unit(5, 4).requires_grad_(), torch.tensor([0, 1])
    hits = no_hits(2, 5)
    hits[:, 3] = True
    info_nce(x, y, target, hits, torch.zeros(5), 0.1).loss.backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None
    assert y.grad[3].abs().sum() == 0
    assert (y.grad[[0, 1, 2, 4]].abs().sum(1) > 0).all()
    kept = [0, 1, 2, 4]
    without = info_nce(x, y.detach()[kept], target, no_hits(2, 4), torch.zeros(4), 0.1)
    torch.testing.assert_close(info_nce(x, y.detach(), target, hits, torch.zeros(5), 0.1).loss, without.loss)


def test_the_corrected_sum_over_negatives_is_unbiased() -> None:
    """A toy catalog drawn by a skewed distribution and by a uniform one, as batches draw it: the average of the weighted sums
    is the sum over the catalog, and without the weights it is far off."""
    rng = np.random.default_rng(0)
    items, positives, uniform, draws = 12, 20, 6, 4000
    frequency = rng.dirichlet(np.full(items, 0.5))
    scores = rng.normal(size=items)
    expected = positives * frequency + uniform / items
    sums, plain = [], []
    for _ in range(draws):
        times = rng.multinomial(positives, frequency) + np.bincount(rng.integers(0, items, uniform), minlength=items)
        drawn = times > 0
        log_weight = np.log(times[drawn] / expected[drawn])
        sums.append(np.exp(scores[drawn] + log_weight).sum())
        plain.append(np.exp(scores[drawn]).sum())
    truth = np.exp(scores).sum()
    error = np.std(sums) / np.sqrt(draws)
    assert abs(np.mean(sums) - truth) < 4 * error
    assert abs(np.mean(plain) - truth) > 20 * error
