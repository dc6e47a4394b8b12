"""Who gets an item: recent users whose answers have it, by placement, and the answers of the serving log that had it."""

from collections.abc import Mapping
from typing import Any

from rf_console.audience import audience_logged, audience_now
from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_platform.errors import NotFoundError

_SECONDS, _USERS = 2.0, 30
_MOST_PLACEMENTS = 8


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the audience of an item."""
    item, (_, index) = visit.needed("id"), visit.catalog
    if not (known := index.of([item])):
        raise NotFoundError(f"the catalog has no item {item[:100]!r}; search for another one")
    placements = visit.console.placements()[:_MOST_PLACEMENTS] or [""]
    users = visit.console.recent_users.ids(index.spec.user.join_key)[: visit.whole("users", _USERS, most=200)]
    k = visit.whole("k", 20, most=100)
    return {
        "id": item,
        "heading": index.title(known[item]),
        "k": k,
        "users": users,
        "wanted": visit.whole("users", _USERS, most=200),
        "seconds": _SECONDS,
        "now": audience_now(visit.client, item, users, placements, k=k, seconds=_SECONDS) if users else None,
        "logged": audience_logged(visit.console.settings, item),
    }


ROUTES = (Page(path="/item/audience", title="Who gets it", template="audience.html", read=read, listed=False),)
