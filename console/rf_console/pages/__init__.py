"""Pages of the console: each file has what one part of the navigation shows and changes."""

from collections.abc import Sequence

from rf_console.pages import (
    audience,
    audit,
    catalog,
    deployments,
    features,
    lineage,
    overview,
    policies,
    quality,
    runs,
    user,
)
from rf_console.web.routes import Room

ROOMS: Sequence[Room] = (
    Room(overview.ROUTES),
    Room(catalog.ROUTES),
    Room(audience.ROUTES),
    Room(user.ROUTES),
    Room(features.ROUTES),
    Room(lineage.ROUTES),
    Room(runs.ROUTES),
    Room(deployments.ROUTES),
    Room(quality.ROUTES),
    Room(policies.ROUTES),
    Room(audit.ROUTES),
)
"""All parts, in the order of the navigation."""
