"""Figures of experiments: worlds without and with effects, estimates against the truth, and interleaving beside a split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
import numpy.typing as npt

from rf_bench.experiments.slates import SlateWorld, logged
from rf_bench.experiments.splits import Outcome, World, simulate
from rf_platform.effects import ConfidenceSequence, Drafted, Effect, Interval, draft, estimate, preferences
from rf_platform.effects.arms import Arm


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """A world of users and what experiments in it came to."""

    world: str
    lift: float
    outcome: Outcome
    seconds: float


def worlds(users: int) -> dict[str, World]:
    """Return the worlds without an effect, by name."""
    return {
        "1 in 2 users, 1 in 10 buys": World(users=users),
        "1 in 10 users, 1 in 10 buys": World(users=users, percent=10),
        "1 in 2 users, 1 in 50 buys": World(users=users, rate=0.02),
        "amounts with a heavy tail": World(users=users, rate=0.1, spending=True),
        "users with a past": World(users=users, rate=0.3, habit=0.8),
    }


def splits(users: int, experiments: int, lift: float, seed: int) -> Iterator[SplitFigures]:
    """Yield the figures of each world, without an effect and with one."""
    for name, world in worlds(users).items():
        for change in (0.0, lift):
            begin = process_time()
            given = World(**{**vars(world), "lift": change})
            found = simulate(given, experiments, seed=seed)
            yield SplitFigures(world=name, lift=change, outcome=found, seconds=process_time() - begin)


@dataclass(frozen=True, kw_only=True)
class EstimateFigures:
    """One estimator over many logs of the same world."""

    name: str
    truth: float
    bias: float
    """Mean estimate less the truth, relative."""
    covered: float
    """Share of the intervals with the truth inside."""
    width: float
    """Mean width of the intervals, relative to the truth."""


def estimators(logs: int, seed: int) -> list[EstimateFigures]:
    """Return the figures of the off-policy estimators."""
    world = SlateWorld(answers=8000)
    target, random = world.order(0.05, 1), np.random.default_rng(seed)
    truth, found = world.value(target), []
    for _ in range(logs):
        drawn, curve = logged(world, target, random)
        found.append(estimate(drawn, curve))
    figures = []
    for name, words in (("ips", "IPS"), ("snips", "SNIPS"), ("dr", "doubly robust")):
        intervals: list[Interval] = [getattr(each, name) for each in found]
        figures.append(
            EstimateFigures(
                name=words,
                truth=truth,
                bias=float(np.mean([each.value for each in intervals])) / truth - 1,
                covered=float(np.mean([each.low <= truth <= each.high for each in intervals])),
                width=float(np.mean([each.high - each.low for each in intervals])) / truth,
            )
        )
    return figures


@dataclass(frozen=True, kw_only=True)
class Race:
    """Users that each method needs until it tells the better of two bundles."""

    split: float
    interleaving: float
    """Median number of users, infinite where fewer than half of the experiments came to an end."""


def race(experiments: int, users: int, seed: int) -> Race:
    """Let the same two bundles be compared by a split and by interleaving, looked at after every user."""
    random, ends = np.random.default_rng(seed), np.full((2, experiments), np.inf)
    sequence = ConfidenceSequence(tightest_at=users / 4)
    for number in range(experiments):
        taken = np.zeros((2, users))
        credits = np.zeros((users, 2))
        for user in range(users):
            lists, likes = _two_lists(random)
            credits[user] = _credits(draft(lists[0], lists[1], 10, random), lists, likes, random)
            chosen = lists[user % 2]
            taken[0, user] = (random.random(10) < 0.3 * likes[chosen]).sum()
        here = np.arange(users) % 2 == 1
        none = np.zeros(users)
        effect = Effect.of(Arm.running(taken[0], none, ~here), Arm.running(taken[0], none, here))
        with np.errstate(invalid="ignore", divide="ignore"):
            low = effect.bounds(sequence)[0]
        ends[0, number] = _first(low[60:]) + 60
        liked = credits.sum(axis=1) > 0
        scores = preferences(credits[:, 0], credits[:, 1])
        n = np.arange(1, len(scores) + 1)
        mean = scores.cumsum() / n
        deviation = np.sqrt(np.maximum((scores**2).cumsum() / n - mean**2, 0))
        at = _first((mean - sequence.radius(deviation, n))[30:]) + 30
        ends[1, number] = np.flatnonzero(liked)[int(at)] if np.isfinite(at) else np.inf
    split, interleaving = np.median(ends, axis=1)
    return Race(split=float(split), interleaving=float(interleaving))


def _two_lists(random: np.random.Generator) -> tuple[list[list[int]], npt.NDArray[np.float64]]:
    likes = np.zeros(50)
    likes[random.permutation(50)[:10]] = 1
    noise = (1.5, 1.1)
    return [np.argsort(-(likes + random.normal(0, each, 50)))[:10].tolist() for each in noise], likes


def _credits(
    drafted: Sequence[Drafted],
    lists: Sequence[Sequence[int]],
    likes: npt.NDArray[np.float64],
    random: np.random.Generator,
) -> list[float]:
    credits = [0.0, 0.0]
    for team, place in drafted:
        credits[team] += float(random.random() < 0.3 * likes[lists[team][place]])
    return credits


def _first(low: npt.NDArray[np.float64]) -> float:
    above = low > 0
    return float(above.argmax()) if above.any() else np.inf
