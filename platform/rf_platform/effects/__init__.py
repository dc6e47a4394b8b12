"""Effects of bundles, from what was shown and what users did: experiments, off-policy estimates, interleaving."""

from rf_platform.effects.arms import Arm, Effect, Readiness
from rf_platform.effects.confidence_sequence import ConfidenceSequence, Interval
from rf_platform.effects.guard_rails import DEGRADED, LATENCY, Coverage, Rail, RailCheck, check_rail, coverage
from rf_platform.effects.off_policy import NOT_SHOWN, DrawnItems, OffPolicy, contrast, estimate
from rf_platform.effects.reward_model import FOLDS, examination_by_place, item_rates
from rf_platform.effects.sample_ratio import SampleRatio
from rf_platform.effects.team_draft import Drafted, draft, preferences
from rf_platform.effects.verdict import Evidence, Finding, Verdict, judge

__all__ = [
    "DEGRADED",
    "FOLDS",
    "LATENCY",
    "NOT_SHOWN",
    "Arm",
    "ConfidenceSequence",
    "Coverage",
    "Drafted",
    "DrawnItems",
    "Effect",
    "Evidence",
    "Finding",
    "Interval",
    "OffPolicy",
    "Rail",
    "RailCheck",
    "Readiness",
    "SampleRatio",
    "Verdict",
    "check_rail",
    "contrast",
    "coverage",
    "draft",
    "estimate",
    "examination_by_place",
    "item_rates",
    "judge",
    "preferences",
]
