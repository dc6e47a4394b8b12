"""Leak canaries: each view with its times moved by a day, and the effect on the validation."""

from rf_platform.dataset.canaries.canary import Canary, Finding, canaries

__all__ = ["Canary", "Finding", "canaries"]
