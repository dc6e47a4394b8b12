"""Evaluation protocols: splits of the events into training and held-out targets."""

from rf_platform.dataset.protocols.cold_items import ColdItems
from rf_platform.dataset.protocols.event_log import (
    HISTORY,
    REMOVED,
    TEST,
    TRAIN,
    VALIDATION,
    Assignment,
    EventLog,
    Events,
    SplitProtocol,
)
from rf_platform.dataset.protocols.leave_one_out import LeaveOneOut
from rf_platform.dataset.protocols.leave_one_out_cold import LeaveOneOutCold
from rf_platform.dataset.protocols.options import PROTOCOLS, parse_cut, protocol_from_options
from rf_platform.dataset.protocols.temporal import Temporal

__all__ = [
    "HISTORY",
    "PROTOCOLS",
    "REMOVED",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Assignment",
    "ColdItems",
    "EventLog",
    "Events",
    "LeaveOneOut",
    "LeaveOneOutCold",
    "SplitProtocol",
    "Temporal",
    "parse_cut",
    "protocol_from_options",
]
