"""Verdict of an experiment, in one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rf_platform.effects.confidence_sequence import Interval
from rf_platform.effects.sample_ratio import SampleRatio


class Finding(StrEnum):
    """Finding of an experiment so far."""

    INVALID = "invalid"
    """The users did not come as they were assigned."""
    HARM = "harm"
    """The challenger is worse, or breaks a guard rail."""
    BETTER = "better"
    EQUAL = "equal"
    """Neither is better by more than the margin."""
    UNDECIDED = "undecided"

    @property
    def stops(self) -> bool:
        """Whether the challenger is taken back at once."""
        return self in (Finding.INVALID, Finding.HARM)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding and the sentence that says it."""

    finding: Finding
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a verdict is made of."""

    control: str
    """Name of the served bundle."""
    challenger: str
    metric: str
    """Outcome in words, such as "purchase per user"."""
    control_mean: float
    difference: Interval | None
    """None: there is not enough to conclude anything."""
    lacking: str
    """Numbers that are not enough, in words."""
    ratio: SampleRatio
    broken: Sequence[str]
    """Guard rails that are broken, in words."""
    margin: float
    """Share of the served bundle's mean within which a difference does not matter."""


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict; a mismatch of the sample ratio goes before harm, and harm before gain."""
    finding, reason = _finding(evidence)
    return Verdict(finding=finding, sentence=reason)


def _finding(e: Evidence) -> tuple[Finding, str]:
    if e.ratio.mismatch:
        came, due = e.ratio.counts, [round(share * sum(e.ratio.counts)) for share in e.ratio.shares]
        return Finding.INVALID, (
            f"The experiment says nothing: {came[0]:,} users of {e.control} and {came[1]:,} of {e.challenger} came, where the "
            f"split assigns {due[0]:,} and {due[1]:,} (p = {e.ratio.p_value:.2g}); find out where users are lost or doubled."
        )
    if e.broken:
        return Finding.HARM, f"{e.challenger} does harm: {'; '.join(e.broken)}."
    if e.difference is None:
        return Finding.UNDECIDED, f"It is too early to compare {e.challenger} with {e.control}: {e.lacking}."
    figures = _figures(e, e.difference)
    low, high, least = e.difference.low, e.difference.high, e.margin * abs(e.control_mean)
    if high < 0:
        return Finding.HARM, f"{e.challenger} does harm: {figures}."
    if low > 0:
        return Finding.BETTER, f"{e.challenger} is better than {e.control}: {figures}, and no guard rail is broken."
    if -least < low and high < least:
        return Finding.EQUAL, f"{e.challenger} and {e.control} are alike within {e.margin:.0%}: {figures}."
    if low > -least:
        return (
            Finding.UNDECIDED,
            f"{e.challenger} is not worse than {e.control} by more than {e.margin:.0%}: {figures}.",
        )
    return Finding.UNDECIDED, f"It is not yet known whether {e.challenger} is better than {e.control}: {figures}."


def _figures(e: Evidence, difference: Interval) -> str:
    text = f"{e.metric} {e.control_mean + difference.value:.4g} after {e.control_mean:.4g}, {difference.value:+.3g} "
    text += f"[{difference.low:+.3g}, {difference.high:+.3g}]"
    if e.control_mean:
        share = difference.scaled(1 / abs(e.control_mean))
        text += f", {share.value:+.1%} [{share.low:+.1%}, {share.high:+.1%}]"
    return text
