"""Policies: the content of each placement of a shop, as one checked document with versions.

:class:`Policy` is the document, :func:`read_policy` reads it from YAML; the registry keeps its versions
(:class:`rf_platform.registry.policies.PolicyVersions`).
"""

from rf_platform.policies.conditions import AllOf, AnyOf, Condition, Not
from rf_platform.policies.lists import ListDefinition
from rf_platform.policies.policy import Placement, Policy, policy_schema
from rf_platform.policies.read import load_policy, read_policy
from rf_platform.policies.rules import Boost, Cap, Diversity, Exploration, Pin, SeenRule
from rf_platform.policies.sources import Source, Sources

__all__ = [
    "AllOf",
    "AnyOf",
    "Boost",
    "Cap",
    "Condition",
    "Diversity",
    "Exploration",
    "ListDefinition",
    "Not",
    "Pin",
    "Placement",
    "Policy",
    "SeenRule",
    "Source",
    "Sources",
    "load_policy",
    "policy_schema",
    "read_policy",
]
