import numpy as np
import pytest

from rf_platform.errors import RunError
from rf_training.evaluation import bootstrap
from rf_training.evaluation.bootstrap import bootstrap_means, estimates


def test_intervals_cover_a_known_rate_about_as_often_as_they_claim() -> None:
    rate, n_users, trials = 0.2, 500, 400
    hits = (np.random.default_rng(1).random((n_users, trials)) < rate).astype(np.float64)
    intervals = estimates(hits, bootstrap_means(hits, resamples=1000, seed=0))
    covered = np.mean([each.low <= rate <= each.high for each in intervals])
    assert 0.92 <= covered <= 0.975


def test_width_is_that_of_the_normal_interval() -> None:
    hits = np.repeat([[1.0], [0.0]], [300, 2700], axis=0)
    (estimate,) = estimates(hits, bootstrap_means(hits, resamples=2000, seed=0))
    assert estimate.value == pytest.approx(0.1)
    half = 1.96 * np.sqrt(0.1 * 0.9 / 3000)
    assert estimate.low == pytest.approx(0.1 - half, abs=0.0015)
    assert estimate.high == pytest.approx(0.1 + half, abs=0.0015)


def test_differences_are_paired() -> None:
    base = np.random.default_rng(0).random(200)
    values = np.stack([base, base + 0.25], axis=1)
    means = bootstrap_means(values, resamples=100, seed=0)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)  # though each of them varies
    assert means[:, 0].std() > 0.01


def test_means_are_of_users_drawn_with_replacement() -> None:
    means = bootstrap_means(np.array([[0.0], [1.0]]), resamples=4000, seed=0)[:, 0]
    shares = [np.mean(means == mean) for mean in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_one_value_for_all_users_gives_a_point() -> None:
    values = np.zeros((50, 1))
    (estimate,) = estimates(values, bootstrap_means(values, resamples=100, seed=0))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_resamples_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 3))
    whole = bootstrap_means(values, resamples=25, seed=9)
    monkeypatch.setattr(bootstrap, "MAX_DRAWS", 100)
    np.testing.assert_allclose(bootstrap_means(values, resamples=25, seed=9), whole, rtol=1e-12)
    assert not np.allclose(bootstrap_means(values, resamples=25, seed=8), whole)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(RunError, match="no user was evaluated"):
        bootstrap_means(np.zeros((0, 1)), resamples=10, seed=0)
    with pytest.raises(ValueError, match="must be at least 1"):
        bootstrap_means(np.zeros((10, 1)), resamples=0, seed=0)
