"""What is served and how it does: the first page, live."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from rf_console.metrics import Reading
from rf_console.web.routes import Endpoint, Page
from rf_console.web.visit import Visit
from rf_platform.errors import RfError, UnavailableError
from rf_platform.registry import RunRecord, RunStatus
from rf_serving.server.rpc import Role
from rf_training.notes import read_notes

_EVENTS = 12
_EVERY_SECONDS, _STREAM_SECONDS = 2.0, 60.0
"""A stream ends after a while, so that the browser asks anew and is checked anew."""


@dataclass(frozen=True)
class Task:
    """A training that goes on."""

    run: RunRecord
    epoch: int
    epochs: int
    left: float | None
    """Seconds that it will still take; None: not known yet."""


def read(visit: Visit) -> Mapping[str, Any]:
    """Return everything that the page shows."""
    return {
        **live(visit),
        "events": _events(visit),
        "history": visit.console.metrics.history() if visit.console.metrics else [],
    }


def live(visit: Visit) -> Mapping[str, Any]:
    """Return what changes while somebody looks."""
    registry = visit.console.registry
    plan, alerts = registry.traffic.plan(), list[str]()
    reading, health = _reading(visit, alerts), _health(visit, alerts)
    deployment = None
    if health and visit.may(Role.ADMIN):
        try:
            deployment = visit.client.deployment()
        except RfError as error:
            alerts.append(str(error))
    if deployment is not None and deployment.refused:
        alerts.append(f"refused: {deployment.refused}")
    if reading is not None:
        alerts += _alerts(reading)
    tasks = [_task(run) for run in registry.runs() if run.status is RunStatus.RUNNING]
    served = registry.deployments()
    return {
        "plan": plan,
        "since": served[-1].created_at if served else None,
        "healthy": health,
        "deployment": deployment,
        "reading": reading,
        "alerts": alerts,
        "tasks": tasks,
        "address": visit.console.options.address,
        "now": datetime.now(UTC),
    }


def stream(visit: Visit) -> Response:
    """Return a stream of server-sent events, each with the part of the page that changes."""

    async def events() -> AsyncIterator[str]:
        for _ in range(int(_STREAM_SECONDS / _EVERY_SECONDS)):
            html = await run_in_threadpool(lambda: visit.render("overview_live.html", live(visit)))
            yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
            await asyncio.sleep(_EVERY_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream")


def _health(visit: Visit, alerts: list[str]) -> bool:
    try:
        visit.client.check_health()
    except RfError as error:
        if visit.console.registry.active_bundle() is not None:
            alerts.append(str(error))
        return False
    return True


def _reading(visit: Visit, alerts: list[str]) -> Reading | None:
    if visit.console.metrics is None:
        return None
    try:
        return visit.console.metrics.now()
    except UnavailableError as error:
        alerts.append(str(error))
        return None


def _alerts(reading: Reading) -> list[str]:
    """Return what the metrics say that somebody should look after."""
    states = {
        "rf_store_down": "the online store does not answer; users are answered without their features",
        "rf_bundle_refused": "a bundle that should be served is refused; the deployments have the reason",
    }
    alerts = [text for name, text in states.items() if reading.value(name)]
    if reading.value("rf_registry_up") == 0:
        alerts.append("the server cannot read the registry; what is promoted now is not taken over")
    ends = reading.value("rf_certificate_ends_timestamp_seconds")
    if ends is not None and ends < reading.at + 14 * 86400:
        alerts.append(f"the server's certificate expires at {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M} UTC")
    broken = sum(rate for status, rate in reading.errors.items() if status in ("INTERNAL", "DATA_LOSS", "UNAVAILABLE"))
    if broken > 0:
        alerts.append(f"{broken:.2g} calls a second fail in the server; its log has the reasons")
    return alerts


def _task(run: RunRecord) -> Task:
    epochs = int(run.config.get("train", {}).get("epochs", 0))
    notes = read_notes(run.path / "history.jsonl")
    epoch = int(notes[-1].get("epoch", 0)) if notes else 0
    gone = (datetime.now(UTC) - run.started_at).total_seconds()
    return Task(run, epoch, epochs, gone / epoch * (epochs - epoch) if epoch and epochs else None)


def _events(visit: Visit) -> list[tuple[datetime, str, str]]:
    """Return what happened last: when, what, and the page that says more."""
    registry = visit.console.registry
    found = [
        (each.created_at, f"{each.action.value} {each.bundle}", "/deployments")
        for each in registry.deployments()[-_EVENTS:]
    ]
    for run in registry.runs()[-_EVENTS:]:
        state = "started" if run.ended_at is None else run.status.value
        found.append((run.ended_at or run.started_at, f"run {run.name} {state}", "/runs"))
    found += [(each.created_at, f"bundle {each.name} built", "/deployments") for each in registry.bundles()[-_EVENTS:]]
    found += [(each.created_at, f"{each.name} applied", "/policies") for each in registry.policies.history()[-_EVENTS:]]
    return sorted(found, reverse=True)[:_EVENTS]


ROUTES = (
    Page(path="/", title="Overview", template="overview.html", read=read),
    Endpoint(path="/overview/live", answer=stream),
)
