"""Team draft, guard rails and verdicts."""

import numpy as np
import pytest

from rf_platform.effects import (
    LATENCY,
    Arm,
    ConfidenceSequence,
    Evidence,
    Finding,
    Interval,
    SampleRatio,
    check_rail,
    coverage,
    draft,
    judge,
    preferences,
)
from rf_platform.effects.guard_rails import distinct_items


def test_both_teams_take_turns_and_no_item_comes_twice() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        first, second = list(random.permutation(12)[:8]), list(random.permutation(12)[:8])
        drafted = draft(first, second, 6, random)
        items = [(first, second)[team][place] for team, place in drafted]
        assert len(set(items)) == 6
        teams = [team for team, _ in drafted]
        assert all({*teams[at : at + 2]} == {0, 1} for at in range(0, 6, 2))


def test_a_list_that_ends_leaves_its_places_to_the_other() -> None:
    drafted = draft([1], [1, 2, 3], 5, np.random.default_rng(0))
    items = [([1], [1, 2, 3])[team][place] for team, place in drafted]
    assert items == [1, 2, 3] or sorted(items) == [1, 2, 3]


def test_equal_lists_are_credited_alike() -> None:
    random = np.random.default_rng(1)
    firsts = np.mean([draft([1, 2, 3, 4], [1, 2, 3, 4], 4, random)[0].team for _ in range(2000)])
    assert firsts == pytest.approx(0.5, abs=0.04)


def simulated(quality: float, users: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Preferences of users that like ten items of fifty; bundle 1 finds them with this much more certainty."""
    random = np.random.default_rng(seed)
    credits = np.zeros((users, 2))
    for user in range(users):
        likes = np.zeros(50)
        likes[random.permutation(50)[:10]] = 1
        lists = [np.argsort(-(likes * (1 + team * quality) + random.normal(0, 1.5, 50)))[:10] for team in (0, 1)]
        for team, place in draft(lists[0].tolist(), lists[1].tolist(), 10, random):
            if random.random() < 0.3 * likes[lists[team][place]]:
                credits[user, team] += 1
    return preferences(credits[:, 0], credits[:, 1])


def test_the_better_bundle_is_preferred_by_simulated_users_and_equal_ones_are_not() -> None:
    sequence = ConfidenceSequence(tightest_at=1000)
    assert sequence.of_mean(simulated(0.6, 800, 0)).low > 0
    alike = sequence.of_mean(simulated(0.0, 800, 1))
    assert alike.low < 0 < alike.high


def test_users_without_a_credit_have_no_preference() -> None:
    found = preferences(np.array([0.0, 1.0, 0.0, 3.0]), np.array([0.0, 1.0, 2.0, 1.0]))
    assert found.tolist() == [0, 1, -0.5]


def test_a_rail_is_broken_only_beyond_what_is_allowed() -> None:
    random = np.random.default_rng(0)
    control = Arm.of(random.normal(10, 2, 3000))
    fine, slow = Arm.of(random.normal(11, 2, 3000)), Arm.of(random.normal(16, 2, 3000))
    assert not check_rail(LATENCY, control, fine, 2, 5000).broken
    broken = check_rail(LATENCY, control, slow, 2, 5000)
    assert broken.broken
    assert "latency broken: 16" in broken.said


def test_coverage_is_compared_at_equally_many_places() -> None:
    # All 100 items once: any 50 places have 50 items.
    assert distinct_items(np.ones(100), 50) == pytest.approx(50)
    assert distinct_items(np.array([3.0, 1.0]), 2) == pytest.approx(1.5)
    found = coverage([10] * 100, [100] * 10)
    assert found.broken
    assert (found.places, round(found.challenger)) == (1000, 10)
    assert not coverage([10] * 100, [1] * 95).broken


def evidence(low: float, high: float, **changes: object) -> Evidence:
    given = {
        "control": "old",
        "challenger": "new",
        "metric": "purchases per user",
        "control_mean": 0.1,
        "difference": Interval(value=(low + high) / 2, low=low, high=high),
        "lacking": "",
        "ratio": SampleRatio.of([500, 500], (0.5, 0.5)),
        "broken": (),
        "margin": 0.05,
        **changes,
    }
    return Evidence(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "finding", "words"),
    [
        (evidence(0.01, 0.03), Finding.BETTER, r"new is better than old: purchases per user 0.12 after 0.1, .*\+20.0%"),
        (evidence(-0.03, -0.01), Finding.HARM, "new does harm: purchases"),
        (evidence(-0.004, 0.004), Finding.EQUAL, "alike within 5%"),
        (evidence(-0.004, 0.03), Finding.UNDECIDED, "not worse than old by more than 5%"),
        (evidence(-0.02, 0.03), Finding.UNDECIDED, "not yet known"),
        (evidence(0.01, 0.03, broken=("latency broken: 3 ms",)), Finding.HARM, "latency broken"),
        (evidence(0, 0, difference=None, lacking="3 users are complete"), Finding.UNDECIDED, "too early .*3 users"),
        (
            evidence(0.01, 0.03, ratio=SampleRatio.of([900, 400], (0.5, 0.5))),
            Finding.INVALID,
            "900 users of old and 400",
        ),
    ],
)
def test_verdicts(given: Evidence, finding: Finding, words: str) -> None:
    import re

    verdict = judge(given)
    assert verdict.finding is finding
    assert re.search(words, verdict.sentence)
    assert verdict.sentence.endswith(".")
    assert finding.stops == (finding in (Finding.HARM, Finding.INVALID))
