"""Events: interactions recorded durably, and applied to the online store within moments."""

from rf_serving.events.intake import EventIntake

__all__ = ["EventIntake"]
