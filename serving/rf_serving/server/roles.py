"""Roles of callers, and the one table of the role that each method needs.

The server enforces this table; the comments of the ``.proto`` files and the table in ``docs/operations.md`` are generated from
it (``infra/check_contracts.py``).
"""

from collections.abc import Mapping
from enum import IntEnum


class Role(IntEnum):
    """Permission of a caller; each role includes the ones before it."""

    READ = 1
    """Ask for items, and look at the catalog."""
    WRITE = 2
    """Also change the catalog and record events."""
    ADMIN = 3
    """Everything."""


METHOD_ROLES: Mapping[str, Mapping[str, Role]] = {
    "RetrievalService": {"Retrieve": Role.READ},
    "CatalogService": {"UpsertItems": Role.WRITE, "DeleteItems": Role.WRITE, "GetItems": Role.READ},
    "FeedbackService": {"RecordEvents": Role.WRITE},
    "DeploymentService": {"GetDeployment": Role.ADMIN},
}
"""Role that each method needs, by service and method; a method that is not listed cannot be served."""

REFLECTION_ROLE = Role.READ
"""Role that gRPC reflection needs, if there are tokens."""
