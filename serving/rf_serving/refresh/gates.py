"""Gates of a refresh: what has to hold for a run before a bundle of it is promoted.

A gate is an object with a name and one method; a refresh asks all of its list, and promotes if all are passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rf_platform.errors import UsageError
from rf_platform.registry import RunRecord
from rf_serving.refresh.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that may become what is served."""

    run: RunRecord
    comparison: Comparison | None
    """With the served bundle; None: nothing is served yet."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Verdict of a gate."""

    gate: str
    passed: bool
    said: str
    """Reason, with figures."""
    waiting: bool = False
    """Whether it is not known yet."""

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "waiting" if self.waiting else "passed" if self.passed else "refused"


class Gate(Protocol):
    """A condition on a candidate."""

    @property
    def name(self) -> str:
        """Name in reports."""

    def judge(self, candidate: Candidate) -> Verdict:
        """Return whether a candidate passes, and why."""


@dataclass(frozen=True, kw_only=True)
class NotWorse:
    """Gate: the candidate is not worse than the served bundle by more than a margin (a test of non-inferiority).

    The whole 95% interval of the difference, paired by user, has to lie above ``-margin`` times the served bundle's value: too
    few users to tell are no reason to promote.
    """

    metric: str = "ndcg@20"
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Check the margin."""
        if not 0 <= self.margin <= 1:
            raise UsageError(f"--margin={self.margin:g} has to be 0 to 1: a share of the served bundle's {self.metric}")

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"{self.metric} not worse"

    def judge(self, candidate: Candidate) -> Verdict:
        """Return whether a candidate passes, and why."""
        found = candidate.comparison
        if found is None:
            return Verdict(gate=self.name, passed=True, said="nothing is served yet")
        now, before, change = (part[self.metric] for part in (found.candidate, found.served, found.differences))
        least = -self.margin * before.value
        told = (
            f"{self.metric} {now.value:.4f} after {before.value:.4f} of '{found.against}' on {found.cases:,} users of "
            f"{found.split}: {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
        )
        if change.low >= least:
            return Verdict(gate=self.name, passed=True, said=told)
        why = "worse" if change.value < least else "too few users to tell, or worse"
        return Verdict(gate=self.name, passed=False, said=f"{told}, and {least:+.4f} is the least allowed: {why}")


def judge_all(gates: Sequence[Gate], candidate: Candidate) -> list[Verdict]:
    """Ask all gates, also behind one that is not passed: the report names everything."""
    return [gate.judge(candidate) for gate in gates]
