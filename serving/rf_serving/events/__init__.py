"""Events: what users do, recorded durably, in the online store within moments and in the next dataset."""

from rf_serving.events.intake import EventIntake

__all__ = ["EventIntake"]
