"""Policies at work: rules held against the features of a bundle, and applied to what was ranked.

The order is that of :mod:`rf_serving.policies.rules`.
"""

from rf_serving.policies.compiled import NO_RULES, CompiledPlacement, CompiledPolicy
from rf_serving.policies.rules import MOST_CANDIDATES, Asked, Candidates, Ruled, Rules

__all__ = [
    "MOST_CANDIDATES",
    "NO_RULES",
    "Asked",
    "Candidates",
    "CompiledPlacement",
    "CompiledPolicy",
    "Ruled",
    "Rules",
]
