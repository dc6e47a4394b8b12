"""Leak canaries: views whose times are moved by a day, and what that does to the validation."""

from rf_platform.dataset.canaries.canary import Canary, Finding, canaries

__all__ = ["Canary", "Finding", "canaries"]
