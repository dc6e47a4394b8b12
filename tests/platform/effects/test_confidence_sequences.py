"""Always-valid intervals, the sample ratio and CUPED: figures by hand, and simulations with known effects."""

import numpy as np
import pytest

from rf_bench.experiments.splits import World, simulate
from rf_platform.effects import Arm, ConfidenceSequence, Effect, Readiness, SampleRatio
from rf_platform.effects.sample_ratio import log_evidence


def test_a_width_by_hand() -> None:
    sequence = ConfidenceSequence(alpha=0.05, tightest_at=100)
    rho = sequence.rho_squared
    expected = 2 * np.sqrt(2 * (50 * rho + 1) / (50**2 * rho) * np.log(np.sqrt(50 * rho + 1) / 0.05))
    assert sequence.radius(2.0, 50) == pytest.approx(expected)


@pytest.mark.parametrize("moment", [100, 10_000])
def test_the_interval_is_narrowest_where_it_was_told_to_be(moment: int) -> None:
    def width(tightest_at: float) -> float:
        return float(ConfidenceSequence(tightest_at=tightest_at).radius(1.0, moment))

    assert width(moment) < min(width(moment * 1.3), width(moment / 1.3))
    # A fixed-time interval is narrower, and no more than by half.
    assert 1.96 / np.sqrt(moment) < width(moment) < 1.6 * 1.96 / np.sqrt(moment)


def test_no_sequence_has_an_impossible_alpha() -> None:
    with pytest.raises(ValueError, match="alpha 0"):
        ConfidenceSequence(alpha=0)
    with pytest.raises(ValueError, match="two observations"):
        ConfidenceSequence().of_mean([1.0])


def test_an_effect_without_a_past_is_the_difference_of_means() -> None:
    random = np.random.default_rng(0)
    control, challenger = random.normal(1, 2, 400), random.normal(1.5, 2, 200)
    effect = Effect.of(Arm.of(control), Arm.of(challenger))
    assert effect.difference == pytest.approx(challenger.mean() - control.mean())
    spread = control.var(ddof=1) / 400 + challenger.var(ddof=1) / 200
    assert effect.deviation**2 / effect.users == pytest.approx(spread, rel=0.02)
    assert effect.slope == 0
    assert effect.explained == 0


def test_cuped_takes_away_what_the_past_explains() -> None:
    random = np.random.default_rng(1)
    past = random.normal(0, 3, 4000)
    treated = np.arange(4000) % 2 == 1
    outcome = past + random.normal(0, 1, 4000) + 0.2 * treated
    plain = Effect.of(Arm.of(outcome[~treated]), Arm.of(outcome[treated]))
    adjusted = Effect.of(Arm.of(outcome[~treated], past[~treated]), Arm.of(outcome[treated], past[treated]))
    assert adjusted.explained == pytest.approx(0.9, abs=0.02)
    assert adjusted.slope == pytest.approx(1, abs=0.02)
    assert adjusted.deviation < plain.deviation / 3
    assert adjusted.difference == pytest.approx(0.2, abs=0.1)


def test_an_arm_without_outcomes_is_not_taken_for_a_certain_one() -> None:
    none, some = Arm.of(np.zeros(500)), Arm.of(np.arange(500) % 10 == 0)
    assert Effect.of(some, none).deviation >= Effect.of(some, some).deviation * 0.7


def test_nothing_is_concluded_from_few_users() -> None:
    few, many = Arm.of(np.ones(99)), Arm.of(np.ones(5000))
    assert "99 users" in Readiness().lacking(many, few)
    rare = Arm.of((np.arange(5000) % 1000 == 0).astype(float))
    assert "5 users with an outcome" in Readiness().lacking(rare, rare)
    assert Readiness().lacking(many, many) == ""


def test_running_sums_are_those_of_each_moment() -> None:
    random = np.random.default_rng(2)
    outcome, past, here = random.random(50), random.random(50), random.random(50) < 0.5
    running, at = Arm.running(outcome, past, here), 33
    once = Arm.of(outcome[: at + 1][here[: at + 1]], past[: at + 1][here[: at + 1]])
    for name, value in vars(once).items():
        assert getattr(running, name)[at] == pytest.approx(value)


def test_the_evidence_against_a_ratio_by_hand() -> None:
    # With one observation the marginal probability is the prior mean, which is the share: no evidence at all.
    assert log_evidence(np.array([1.0, 0.0]), (0.9, 0.1)) == pytest.approx(0, abs=1e-9)
    assert SampleRatio.of([5000, 5000], (0.5, 0.5)).p_value == 1
    assert SampleRatio.of([5000, 4400], (0.5, 0.5)).mismatch
    assert not SampleRatio.of([9010, 990], (0.9, 0.1)).mismatch


A_A = {
    "even": World(users=1200, rate=0.2),
    "one in five": World(users=1200, percent=20, rate=0.4),
    "amounts with a heavy tail": World(users=1200, rate=0.3, spending=True),
    "with a past": World(users=1200, habit=0.8, rate=0.2),
}


@pytest.mark.parametrize("world", A_A.values(), ids=A_A)
def test_false_alarms_stay_below_one_in_twenty_however_often_one_looks(world: World) -> None:
    found = simulate(world, 1000, seed=11)
    assert found.excluded_zero <= 0.05
    assert found.mismatches <= 0.005
    assert found.naive > 0.12  # a look at an ordinary interval after every user finds an effect that is not there


def test_the_truth_stays_inside_and_effects_are_found() -> None:
    found = simulate(World(users=4000, rate=0.2, lift=0.35), 200, seed=5)
    assert found.excluded_truth <= 0.05
    assert found.excluded_zero > 0.9
    assert found.median_users < 3000


def test_the_past_saves_users() -> None:
    plain = simulate(World(users=4000, rate=0.4, lift=0.14), 100, seed=7)
    adjusted = simulate(World(users=4000, rate=0.4, lift=0.14, habit=0.9), 100, seed=7)
    assert adjusted.explained > 0.15
    assert adjusted.excluded_zero > plain.excluded_zero


def test_lost_users_are_found() -> None:
    assert simulate(World(users=4000, lost=0.2), 40, seed=3).mismatches > 0.9
