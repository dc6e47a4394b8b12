"""Off-policy estimates against the truth of a small world."""

from dataclasses import replace

import numpy as np
import pytest

from rf_bench.experiments.slates import SlateWorld, logged
from rf_platform.effects import (
    NOT_SHOWN,
    DrawnItems,
    OffPolicy,
    contrast,
    estimate,
    examination_by_place,
    item_rates,
)
from rf_platform.effects.confidence_sequence import Interval

WORLD = SlateWorld(answers=6000)
REPEATS = 80


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def test_estimates_by_hand() -> None:
    drawn = DrawnItems(
        user_A=np.array([0, 1, 2, 3]),
        size_A=np.array([2, 2, 2, 2]),
        answer_D=np.array([0, 1, 2, 3]),
        place_D=np.array([0, 1, 0, 0]),
        target_D=np.array([0, 0, NOT_SHOWN, 1]),
        propensity_D=np.array([0.5, 0.25, 0.5, 0.25]),
        reward_D=np.array([1.0, 1.0, 1.0, 0.0]),
        predicted_D=np.full(4, 0.5),
        predicted_A=np.full(4, 1.0),
    )
    found = estimate(drawn)
    assert found.ips.value == pytest.approx((1 / 0.5 + 1 / 0.25) / 4)
    assert found.snips.value == pytest.approx(2 * (2 + 4) / (2 + 4 + 4))
    assert found.dr.value == pytest.approx(1 + (0.5 / 0.5 + 0.5 / 0.25 - 0.5 / 0.25) / 4)
    assert found.effective == pytest.approx(100 / 36)
    assert found.support.value == pytest.approx(10 / 4 / 2)
    # The item of the second answer would stand at the first place, which is looked at twice as much.
    moved = estimate(drawn, np.array([1.0, 0.5]))
    assert moved.ips.value == pytest.approx((1 / 0.5 + 2 / 0.25) / 4)


def test_the_truth_is_met_and_covered() -> None:
    target = WORLD.order(0.05, 1)
    truth, random = WORLD.value(target), np.random.default_rng(0)
    found = []
    for _ in range(REPEATS):
        drawn, _ = logged(WORLD, target, random)
        found.append(estimate(drawn, WORLD.examination))
    for name in ("ips", "snips", "dr"):
        intervals = [getattr(each, name) for each in found]
        values = np.array([each.value for each in intervals])
        error = values.std(ddof=1) / np.sqrt(REPEATS)
        assert values.mean() == pytest.approx(truth, abs=4 * error), name
        covered = np.mean([covers(each, truth) for each in intervals])
        assert covered >= 0.9, name
    assert all(not each.refused for each in found)
    widths = {
        name: np.mean([getattr(e, name).high - getattr(e, name).low for e in found]) for name in ("ips", "snips", "dr")
    }
    assert widths["dr"] < widths["ips"]
    assert widths["snips"] < widths["ips"]


def test_the_examination_is_read_from_draws() -> None:
    world = replace(WORLD, answers=60_000)
    target = world.order(0.05, 1)
    drawn, curve = logged(world, target, np.random.default_rng(1))
    np.testing.assert_allclose(curve, world.examination, atol=0.08)
    assert (np.diff(curve) <= 0).all()
    assert covers(estimate(drawn, curve).dr, world.value(target))
    # With places taken for alike, the value is too low: draws stand lower than the first places.
    assert estimate(drawn).ips.high < world.value(target)


def test_the_better_of_two_orders_is_found() -> None:
    good, poor = WORLD.order(0.02, 1), WORLD.order(0.5, 2)
    truth, signs = WORLD.value(good) - WORLD.value(poor), []
    for seed in range(20):
        first, curve = logged(WORLD, good, np.random.default_rng(seed))
        second, _ = logged(WORLD, poor, np.random.default_rng(seed))
        difference = contrast(first, second, curve)
        signs.append((difference.low > 0, covers(difference, truth)))
    decided, covered = np.mean(signs, axis=0)
    assert decided > 0.6
    assert covered >= 0.85


def test_items_that_are_never_drawn_are_refused() -> None:
    order = np.argsort(-WORLD.liking.mean(axis=0))
    # The items of a world are as they come; bar the first ones and ask about an order that shows them.
    world = replace(WORLD, barred=10)
    target = np.tile(np.arange(5), (world.kinds, 1))
    drawn, _ = logged(world, target, np.random.default_rng(0))
    assert "nothing is known" in estimate(drawn).refused
    half = np.tile(np.array([0, 1, 12, 13, 14]), (world.kinds, 1))
    drawn, _ = logged(world, half, np.random.default_rng(0))
    assert "draws could show 60%" in estimate(drawn).refused.replace("59%", "60%").replace("61%", "60%")
    assert len(order) == world.items


def test_false_propensities_are_refused() -> None:
    drawn, _ = logged(WORLD, WORLD.order(0.05, 1), np.random.default_rng(0))
    wrong = replace(drawn, propensity_D=drawn.propensity_D / 2)
    assert "propensities are not true" in estimate(wrong).refused
    with pytest.raises(ValueError, match="no probability"):
        replace(drawn, propensity_D=drawn.propensity_D * 0)


def test_few_draws_are_refused() -> None:
    small = replace(WORLD, answers=60)
    found: OffPolicy = estimate(logged(small, small.order(0.05, 1), np.random.default_rng(0))[0])
    assert "effective sample size" in found.refused


def test_answers_of_one_user_are_no_independent_evidence() -> None:
    drawn, _ = logged(WORLD, WORLD.order(0.05, 1), np.random.default_rng(0))
    repeated = replace(
        drawn,
        **{
            name: np.concatenate([value, value + (6000 if name == "answer_D" else 0)])
            for name, value in vars(drawn).items()
        },
    )
    once, twice = estimate(drawn).ips, estimate(repeated).ips
    assert twice.value == pytest.approx(once.value)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.01)


def test_rates_are_learned_without_the_fold() -> None:
    item, reward = np.array([0, 0, 1]), np.array([1.0, 0.0, 0.0])
    rates = item_rates(item, reward, np.ones(3), np.array([0, 1, 1]), 2)
    assert rates[0].tolist() == [0, 0]  # the reward is in fold 0, and fold 0 is not learned from
    assert rates[1, 0] == pytest.approx((1 + 20 * 1.0) / 21)


def test_places_without_rewards_are_alike() -> None:
    assert examination_by_place(np.array([0, 1]), np.zeros(2), 3).tolist() == [1, 1, 1]
