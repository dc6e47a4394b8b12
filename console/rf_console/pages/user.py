"""A user, or a session that was clicked together: what is known, the answer with its reasons, and what it would be otherwise."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from rf_console.pages.catalog import written
from rf_console.users import Event, User
from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_platform.errors import NotFoundError, UsageError
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse
from rf_serving.commands.query_output import AnswerItems, cause_of, found_by
from rf_serving.ranking.policy import name_of, order_named

_ORDERS = ("none", "exact", "lime")
_SET, _WHY = "set:", "why"
_OTHERS = ("bundle", "rerank2", "placement2")
_MOST_SESSION = 200
_SEARCHED = 8


@dataclass(frozen=True)
class Reason:
    """A cause of a score."""

    cause: str
    contribution: float | None
    """None: of a rule that moves items and changes no score."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An item of an answer."""

    rank: int
    item: str
    title: str
    score: float
    source: str = ""
    reasons: Sequence[Reason] = ()
    moved: int | None = None
    """Places that it stands higher than in the other answer; None: it is not there."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as it is shown."""

    title: str
    rows: Sequence[Row]
    how: str
    stages: Sequence[tuple[str, float]] = ()
    """Names of the stages, and their milliseconds."""
    notes: Sequence[str] = ()
    compared: bool = False
    """Whether rows say how they moved."""
    gone: Sequence[str] = field(default_factory=list)
    """Titles of items that only the other answer has."""


def read(visit: Visit) -> Mapping[str, Any]:
    """Return what is known of a user or a session, with the answers to it."""
    record = visit.console.registry.active_bundle()
    if record is None:
        raise NotFoundError("no bundle is promoted, so nobody can be answered; promote one first")
    user_id, session = visit.value("id"), [each for part in visit.values("session") for each in part.split(",") if each]
    shown: dict[str, Any] = {
        "id": user_id,
        "session": session,
        "titles": {},
        "user": None,
        "answers": [],
        "placements": visit.console.placements(),
        "orders": _ORDERS,
        "bundles": [
            each.name
            for each in visit.console.registry.bundles()
            if each.removed_at is None and each.name != record.name
        ],
        "found": [],
        "written": written,
        "link": lambda **changes: _link(visit, session, **changes),
    }
    if visit.value("find"):
        index = visit.catalog[1]
        shown["found"] = [
            (each.id, index.title(each)) for each in index.find(visit.value("find"), count=_SEARCHED).items
        ]
    if len(session) > _MOST_SESSION:
        raise UsageError(f"session has {len(session):,} items; the console takes {_MOST_SESSION}")
    if user_id:
        user = visit.console.users.read(record, user_id)
    elif session or visit.value("anonymous"):
        user = _anonymous(session)
    else:
        return shown
    index = visit.catalog[1]
    what_if = any(_changed(visit, user)) or any(visit.value(name) for name in _OTHERS)
    request = _request(visit, user, user_id, plain=True)
    with ThreadPoolExecutor(1) as beside:  # both answers at once
        other = beside.submit(_other, visit, user) if what_if else None
        plain = _answer("Now" if what_if else "Answer", *_ask(visit, request))
    answers = [plain] if other is None else [plain, _compared(other.result(), plain)]
    known = index.titles([*session, *(each.item for each in user.events)])
    return {**shown, "user": user, "titles": known, "answers": answers, "why": request.explain}


def _anonymous(session: Sequence[str]) -> User:
    events = [Event(position=i, item=item, at=None, context={}) for i, item in enumerate(session)]
    return User(id="", profile={}, moments={}, events=events, seen=list(session))


def _request(visit: Visit, user: User, user_id: str, *, plain: bool) -> RetrieveRequest:
    """Return the request for a user, as it is or with what is changed."""
    rerank = visit.value("rerank2" if not plain and visit.value("rerank2") else "rerank")
    if rerank and rerank not in _ORDERS:
        raise UsageError(f"rerank={rerank[:40]!r} is no order; choose {', '.join(_ORDERS)}")
    request = RetrieveRequest(
        k=visit.whole("k", 12, most=100),
        exclude_seen=visit.value("seen") != "yes",
        explain=visit.value(_WHY) == "yes",
        rerank=order_named(rerank or None),
        placement=visit.value("placement2" if not plain and visit.value("placement2") else "placement"),
        return_history=True,
    )
    drop, profile = ([], {}) if plain else _changed(visit, user)
    if user_id and not drop and not profile:
        request.user_id = user_id
        return request
    request.session.CopyFrom(user.session(without=drop, profile=profile))
    if request.exclude_seen and user.seen:  # a session has not seen what came before its history
        request.filter.CopyFrom(Filter(deny_items=user.seen))
    return request


def _changed(visit: Visit, user: User) -> tuple[list[int], dict[str, Any]]:
    """Return the events that are dropped, and the values that are changed."""
    drop = []
    for text in visit.values("drop"):
        if not text.isdecimal() or len(text) > 9 or int(text) >= len(user.events):
            raise UsageError(f"drop={text[:20]!r} is no event of the history; it has {len(user.events)}, from 0 on")
        drop.append(int(text))
    profile: dict[str, Any] = {}
    for name, value in visit.query:
        if not name.startswith(_SET):
            continue
        feature = name.removeprefix(_SET)
        if feature not in user.profile:
            raise UsageError(f"{name[:60]!r} is no feature of users; set one of {', '.join(user.profile)}")
        if value.strip() != written(user.profile[feature]):
            profile[feature] = value.strip() or None
    return drop, profile


def _ask(visit: Visit, request: RetrieveRequest) -> tuple[RetrieveResponse, AnswerItems]:
    response = visit.client.retrieve(request)
    index = visit.catalog[1]
    known = index.of(AnswerItems.ids_of(response))
    return response, AnswerItems(index.display, {item: found.shown for item, found in known.items()})


def _answer(title: str, response: RetrieveResponse, items: AnswerItems) -> Answer:
    notes = [f"a cap could not be kept: {cap}" for cap in response.yielded_caps]
    if response.degraded:
        notes.append("degraded: the features of the user could not be read in time, or are not what they were")
    if response.cold:
        notes.append("cold: nothing is known of the user's past")
    order = name_of(response.rerank)
    placement = (
        f"placement {response.placement} of policy version {response.policy_version}" if response.placement else ""
    )
    how = ", ".join(filter(None, [f"bundle {response.bundle}", found_by(response), f"order {order}", placement]))
    rows = [
        Row(
            rank=rank,
            item=each.item_id,
            title=items.title(each.item_id),
            score=each.score,
            source=each.source,
            reasons=[
                Reason(cause_of(reason, items), reason.contribution if not _moves(reason) else None)
                for reason in each.explanation.reasons[:5]
            ],
        )
        for rank, each in enumerate(response.items, 1)
    ]
    return Answer(
        title=title, rows=rows, how=how, stages=[(t.stage, t.milliseconds) for t in response.timings], notes=notes
    )


def _moves(reason: Any) -> bool:
    return bool(reason.HasField("rule")) and not reason.contribution


def _other(visit: Visit, user: User) -> Answer:
    """Return the answer with everything that is changed."""
    request = _request(visit, user, visit.value("id"), plain=False)
    if name := visit.value("bundle"):
        return _by_bundle(visit, user, request, name)
    return _answer("What if", *_ask(visit, request))


def _compared(answer: Answer, plain: Answer) -> Answer:
    """Return an answer, held against the plain one."""
    before = {each.item: each for each in plain.rows}
    rows = [
        Row(**{**vars(row), "moved": before[row.item].rank - row.rank if row.item in before else None})
        for row in answer.rows
    ]
    there = {row.item for row in rows}
    gone = [each.title for item, each in before.items() if item not in there]
    return Answer(**{**vars(answer), "rows": rows, "compared": True, "gone": gone})


def _by_bundle(visit: Visit, user: User, request: RetrieveRequest, name: str) -> Answer:
    """Return the answer of another bundle, computed in this process."""
    drop, profile = _changed(visit, user)
    answered = visit.console.bundles.answer(
        visit.console.registry.bundle(name),
        user,
        without=drop,
        profile=profile,
        k=request.k,
        seen=not request.exclude_seen,
    )
    index = visit.catalog[1]
    titles = index.titles([item for item, _ in answered])
    rows = [Row(rank=i, item=item, title=titles[item], score=score) for i, (item, score) in enumerate(answered, 1)]
    how = f"bundle {name}, computed by the console: items as the bundle has them, without placement and re-ranking"
    return Answer(title="What if", rows=rows, how=how)


def _link(visit: Visit, session: Sequence[str], **changes: Any) -> str:
    """Return this page with another session, and all else as it is."""
    kept = [
        (name, value) for name, value in visit.query if name not in ("session", "find", "anonymous", "drop") and value
    ]
    items = list(session)
    if add := changes.get("add"):
        items.append(add)
    if (remove := changes.get("remove")) is not None:
        items = items[:remove] + items[remove + 1 :]
    pairs = [*kept, *([("session", ",".join(items))] if items else [("anonymous", "yes")])]
    return f"/user?{urlencode(pairs)}"


ROUTES = (Page(path="/user", title="User", template="user.html", read=read),)
