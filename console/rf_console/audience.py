"""Audience of an item: recent users whose answer has it now, and the logged answers that had it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from time import monotonic
from typing import Any

from rf_platform.errors import RfError
from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings
from rf_platform.sql import literal, pattern_literal
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.client import RetrievalClient

_AT_ONCE = 4
"""Answers that are asked for together: the server computes them together, and has room for others."""
_LOG_BYTES = 32 * 2**20
"""Of the newest files of the serving log that are read."""
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A user, or a session, whose answer has the item."""

    user: str
    """Empty: a session."""
    placement: str
    place: int
    """1 is the first."""
    at: datetime | None = None
    """Time of a logged answer."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Answers of one placement."""

    placement: str
    """Empty: none."""
    asked: int
    """Answers."""
    got: int
    """Those that have the item."""
    place: float | None
    """Mean place of the item in these; 1 is the first."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Answers that have an item."""

    shares: Sequence[Share]
    recipients: Sequence[Recipient]
    """Some of those who get it."""
    complete: bool = True
    """Whether all were looked at in time."""
    problem: str = ""
    """Why some were not."""
    since: datetime | None = None
    """Time of the oldest logged answer that was read."""


@dataclass
class _Asked:
    """What came back so far."""

    places: dict[str, list[int | None]] = field(default_factory=dict)
    recipients: list[Recipient] = field(default_factory=list)
    problem: str = ""


def audience_now(
    client: RetrievalClient, item: str, users: Sequence[str], placements: Sequence[str], *, k: int, seconds: float
) -> Audience:
    """Ask for the answers of users, placement by placement, until time is up.

    Args:
        client: of the server.
        item: the item that is looked for.
        users: to ask for, the most interesting first.
        placements: each is asked for; an empty name is the policy's default, or no rules.
        k: items of an answer.
        seconds: time after which no further answer is asked for.
    """
    asked, lock, until = _Asked({name: [] for name in placements}), Lock(), monotonic() + seconds

    def ask(user: str, placement: str) -> None:
        if monotonic() > until or asked.problem:
            return
        try:
            response = client.retrieve(RetrieveRequest(user_id=user, k=k, exclude_seen=True, placement=placement))
        except RfError as error:
            with lock:
                asked.problem = str(error)
            return
        place = next((rank for rank, each in enumerate(response.items, 1) if each.item_id == item), None)
        with lock:
            asked.places[placement].append(place)
            if place is not None:
                asked.recipients.append(Recipient(user=user, placement=placement, place=place))

    with ThreadPoolExecutor(_AT_ONCE, "rf-audience") as pool:
        for user in users:
            for placement in placements:
                pool.submit(ask, user, placement)
    return Audience(
        shares=[_share(name, found) for name, found in asked.places.items()],
        recipients=sorted(asked.recipients, key=lambda each: each.place)[:_SHOWN],
        complete=sum(map(len, asked.places.values())) == len(users) * len(placements),
        problem=asked.problem,
    )


def _share(placement: str, places: Sequence[int | None]) -> Share:
    had = [place for place in places if place is not None]
    mean = sum(had) / len(had) if had else None
    return Share(placement=placement, asked=len(places), got=len(had), place=mean)


def audience_logged(settings: Settings, item: str) -> Audience | None:
    """Return what the newest files of the serving log say; None: there are none.

    Args:
        settings: of the workspace.
        item: the item that is looked for.
    """
    files: list[str] = []
    size = 0
    for part in reversed(ServingParts(settings.workspace.serving_log).parts()):
        size += part.bytes
        if files and size > _LOG_BYTES:
            break
        files.append(pattern_literal(part.path))
    if not files:
        return None
    import duckdb

    answers = f"""(SELECT time, user_id, placement,
        nullif(list_position(list_transform(items, i -> i.item_id), {literal(item)}), 0) AS place
        FROM read_parquet([{", ".join(files)}], union_by_name = true))"""
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("SET TimeZone = 'UTC'")
        shares: list[tuple[Any, ...]] = db.execute(
            f"""SELECT placement, count(*), count(place), avg(place), min(time) FROM {answers}
            GROUP BY placement ORDER BY 2 DESC"""
        ).fetchall()
        recipients = db.execute(
            f"SELECT user_id, placement, place, time FROM {answers} WHERE place IS NOT NULL ORDER BY time DESC LIMIT {_SHOWN}"
        ).fetchall()
    return Audience(
        shares=[Share(placement=name, asked=asked, got=got, place=mean) for name, asked, got, mean, _ in shares],
        recipients=[Recipient(user=u or "", placement=p, place=place, at=at) for u, p, place, at in recipients],
        since=min((each[-1] for each in shares), default=None),
        complete=len(files) == len(ServingParts(settings.workspace.serving_log).parts()),
    )
