"""Skew: what was served, held against what training sees of the same users at the same microsecond."""

from rf_platform.skew.difference import Difference, Status
from rf_platform.skew.replay import Replay, ReplayOptions, replay
from rf_platform.skew.report import FieldReport, ReplayReport

__all__ = ["Difference", "FieldReport", "Replay", "ReplayOptions", "ReplayReport", "Status", "replay"]
