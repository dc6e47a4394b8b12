"""The objectives: InfoNCE with log-Q correction (R9), the exact softmax, and the penalties (R10, R15)."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rf_training import loss
from rf_training.loss import full_softmax, info_nce


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def no_hits(queries: int, candidates: int) -> torch.Tensor:
    return torch.zeros(queries, candidates, dtype=torch.bool)


def test_without_correction_it_is_cross_entropy() -> None:
    torch.manual_seed(0)
    x, y, target = unit(5, 4), unit(7, 4), torch.tensor([0, 6, 3, 3, 1])
    found = info_nce(x, y, None, target, no_hits(5, 7), torch.zeros(7), 0.1)
    torch.testing.assert_close(found, F.cross_entropy(x @ y.T / 0.1, target))
    bias = torch.randn(7)
    with_bias = info_nce(x, y, bias, target, no_hits(5, 7), torch.zeros(7), 0.1)
    torch.testing.assert_close(with_bias, F.cross_entropy((x @ y.T + bias) / 0.1, target))


def test_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = info_nce(x, y, None, torch.tensor([0]), no_hits(1, 2), torch.log(torch.tensor([9.0, 3.0])), 1.0)
    # The positive counts once whatever its weight; the negative three times.
    assert math.isclose(found.item(), math.log(math.e + 3) - 1, rel_tol=1e-6)
    assert loss.alignment(x, y, torch.tensor([0])).item() == 0
    assert math.isclose(loss.alignment(x, y, torch.tensor([1])).item(), 2, rel_tol=1e-6)
    assert math.isclose(loss.uniformity(x, y).item(), math.log((1 + math.exp(-4)) / 2), rel_tol=1e-6)
    assert math.isclose(loss.uniformity_of(y).item(), -4, rel_tol=1e-6)
    assert loss.norm_penalty(3 * x, 2 * y).item() == 9 + 4


def test_versions_of_the_target_and_positives_of_its_window_are_no_negatives() -> None:
    """Candidates are versions of items: the third is the first one's item at another price, the fifth the second one's."""
    item_C, target_Q, window_Q = torch.tensor([0, 1, 0, 2, 1]), torch.tensor([0, 4, 3]), torch.tensor([0, 0, 1])
    assert loss.hits(item_C, target_Q).int().tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0]]
    of_windows = loss.hits(item_C, target_Q, window_Q, windows=2)
    assert of_windows.int().tolist() == [[1, 1, 1, 0, 1], [1, 1, 1, 0, 1], [0, 0, 0, 1, 0]]


def test_accidental_hits_carry_no_loss_and_no_gradient() -> None:
    torch.manual_seed(0)
    x, y, target = unit(2, 4), unit(5, 4).requires_grad_(), torch.tensor([0, 1])
    hits = no_hits(2, 5)
    hits[:, 3] = True
    info_nce(x, y, None, target, hits, torch.zeros(5), 0.1).backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None
    assert y.grad[3].abs().sum() == 0
    assert (y.grad[[0, 1, 2, 4]].abs().sum(1) > 0).all()
    kept = [0, 1, 2, 4]
    for hardness in (0.0, 1.0):
        without = info_nce(x, y.detach()[kept], None, target, no_hits(2, 4), torch.zeros(4), 0.1, hardness)
        found = info_nce(x, y.detach(), None, target, hits, torch.zeros(5), 0.1, hardness)
        torch.testing.assert_close(found, without)


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


def softmax_inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    tensors = (unit(9, 4).double(), unit(7, 4).double(), torch.randn(7).double())
    return *(t.requires_grad_() for t in tensors), torch.tensor([0, 6, 3, 3, 1, 2, 5, 0, 4])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [7, 7 * 4, 1 << 20])
def test_the_exact_softmax_and_its_gradients_are_those_of_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, at_once: int
) -> None:
    """Whatever the size of the parts, the last of which is smaller."""
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    x, y, bias, target = softmax_inputs()
    expected = F.cross_entropy((x @ y.T + bias) / 0.1, target, label_smoothing=smoothing)
    wanted = torch.autograd.grad(expected, (x, y, bias))
    found = full_softmax(x, y, bias, target, 0.1, smoothing)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(torch.autograd.grad(3 * found, (x, y, bias)), wanted, strict=True):
        torch.testing.assert_close(mine, 3 * theirs)


def test_the_exact_softmax_without_a_bias() -> None:
    x, y, _, target = softmax_inputs()
    torch.testing.assert_close(full_softmax(x, y, None, target, 0.2), F.cross_entropy(x @ y.T / 0.2, target))


def test_the_exact_softmax_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 10_000)
    x, y = unit(200, 8), unit(1000, 8).requires_grad_()
    seen: list[int] = []

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                seen.append(out.numel())
            return out

    with Sizes():  # type: ignore[no-untyped-call]
        full_softmax(x, y, None, torch.zeros(200, dtype=torch.int64), 0.1).backward()  # type: ignore[no-untyped-call]
    assert max(seen) <= 10_000


def test_hard_negatives_push_harder_and_keep_the_total() -> None:
    """By hand: two negatives of logits 1 and -1; hardness 1 weighs them by e and 1/e, scaled to weights of sum 2."""
    x = torch.tensor([[1.0, 0.0]])
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    target, hits, weights = torch.tensor([0]), no_hits(1, 3), torch.zeros(3)
    hard = info_nce(x, y, None, target, hits, weights, 1.0, 1.0)
    scale = 2 / (math.e + 1 / math.e)
    assert math.isclose(hard.item(), math.log(1 + scale * (math.e**2 + math.e**-2)), rel_tol=1e-6)
    share = []
    for hardness in (0.0, 1.0):
        found = info_nce(x, y, None, target, hits, weights, 1.0, hardness)
        (gradient,) = torch.autograd.grad(found, y)
        share.append(gradient[1, 0] / gradient[2, 0])
    assert share[1] > 5 * share[0]


def test_the_variance_penalty_asks_for_every_dimension() -> None:
    sphere = F.normalize(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert loss.variance_penalty(sphere).item() < 0.02
    collapsed = F.normalize(torch.ones(50, 8), dim=1)
    assert loss.variance_penalty(collapsed).item() > 0.99
    flat = sphere.clone()
    flat[:, :4] = 0
    flat = F.normalize(flat, dim=1).requires_grad_()
    found = loss.variance_penalty(flat)
    assert 0.45 < found.item() < 0.55
    found.backward()  # type: ignore[no-untyped-call]
    assert flat.grad is not None
