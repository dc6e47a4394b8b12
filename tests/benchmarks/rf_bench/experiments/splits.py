"""Simulated splits with a known effect, looked at after every user."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.effects import Arm, ConfidenceSequence, Effect, Readiness
from rf_platform.effects.sample_ratio import ALPHA, log_evidence

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_TOGETHER = 1 << 21
"""Users that are simulated at once, at most."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Users of an experiment: how often they buy, how much they pay, and how alike they stay."""

    users: int = 5_000
    percent: float = 50.0
    rate: float = 0.1
    """Share of the users with an outcome."""
    spending: bool = False
    """Whether an outcome is an amount with a heavy tail (log-normal) instead of 1."""
    lift: float = 0.0
    """Relative change of the rate by the challenger."""
    habit: float = 0.0
    """0: the past says nothing; 1: it says as much as it can."""
    lost: float = 0.0
    """Share of the challenger's users that are lost on the way."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Shares of simulated experiments."""

    experiments: int
    excluded_zero: float
    """The interval left 0 out at some look: a false alarm where there is no effect, power where there is one."""
    excluded_truth: float
    """The interval left the true effect out at some look."""
    naive: float
    """An ordinary 95% interval left 0 out at some look."""
    mismatches: float
    """The sample ratio raised an alarm at some look."""
    median_users: float
    """Users after which half of the experiments had left 0 out; infinite if fewer than half did."""
    explained: float
    """Share of the variance that the past took away."""


def simulate(world: World, experiments: int, *, seed: int, sequence: ConfidenceSequence | None = None) -> Outcome:
    """Run experiments, each with a look after every user.

    Args:
        world: the users.
        experiments: how many.
        seed: of all draws.
        sequence: the intervals; default: as `rf experiment` has them, narrowest at the number of users.
    """
    sequence = sequence or ConfidenceSequence(tightest_at=world.users)
    random = np.random.default_rng(seed)
    step = max(1, _TOGETHER // world.users)
    parts = [_some(world, min(step, experiments - at), random, sequence) for at in range(0, experiments, step)]
    first, truth, naive, mismatch, explained = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Outcome(
        experiments=experiments,
        excluded_zero=float(np.isfinite(first).mean()),
        excluded_truth=float(truth.mean()),
        naive=float(naive.mean()),
        mismatches=float(mismatch.mean()),
        median_users=float(np.median(first)),
        explained=float(explained.mean()),
    )


def _some(
    world: World, count: int, random: np.random.Generator, sequence: ConfidenceSequence
) -> tuple[npt.NDArray[Any], ...]:
    """Return of each experiment: first look without 0, whether the truth was ever out, and so on."""
    treated, outcome, past, here = _users(world, count, random)
    control, challenger = Arm.running(outcome, past, ~treated & here), Arm.running(outcome, past, treated & here)
    effect, ready = Effect.of(control, challenger), Readiness().ready(control, challenger)
    low, high = effect.bounds(sequence)
    true = world.rate * world.lift * (_MEAN_SPENDING if world.spending else 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = 1.96 * effect.deviation / np.sqrt(effect.users)
        naive = ready & (np.abs(effect.difference) > half)
        out = ready & ((low > 0) | (high < 0))
        wrong = ready & ((low > true) | (high < true))
        first = np.where(out.any(axis=-1), effect.users[np.arange(count), out.argmax(axis=-1)], np.inf)
    shares = (1 - world.percent / 100, world.percent / 100)
    evidence = log_evidence(np.stack([control.users, challenger.users], axis=-1), shares)
    mismatch = (evidence > -np.log(ALPHA)).any(axis=-1)
    return first, np.asarray(wrong.any(axis=-1)), np.asarray(naive.any(axis=-1)), mismatch, effect.explained[:, -1]


_SIGMA = 1.0
_MEAN_SPENDING = float(np.exp(_SIGMA**2 / 2))


def _users(world: World, count: int, random: np.random.Generator) -> tuple[Flags, Floats, Floats, Flags]:
    """Return which bundle each user has, the outcomes, the pasts, and which users are not lost."""
    shape = (count, world.users)
    treated = random.random(shape) < world.percent / 100
    # Half of the users are given to buying as far as the habit goes; the past is a noisy count of the same.
    given = random.random(shape) < 0.5
    rate = world.rate * np.where(given, 1 + world.habit, 1 - world.habit)
    outcome = (random.random(shape) < rate * np.where(treated, 1 + world.lift, 1.0)).astype(np.float64)
    if world.spending:
        outcome *= random.lognormal(0.0, _SIGMA, shape)
    past = random.poisson(10 * rate).astype(np.float64) if world.habit else np.zeros(shape)
    here = ~treated | (random.random(shape) >= world.lost) if world.lost else np.ones(shape, np.bool_)
    return treated, outcome, past, here
