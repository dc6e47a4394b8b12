"""Who changed what through the console."""

from collections.abc import Mapping
from typing import Any

from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_serving.server.rpc import Role

_SHOWN = 200


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the latest lines of the audit log."""
    return {"lines": visit.console.audit.latest(visit.whole("count", _SHOWN, most=1000))}


ROUTES = (Page(path="/audit", title="Audit", template="audit.html", read=read, role=Role.ADMIN),)
