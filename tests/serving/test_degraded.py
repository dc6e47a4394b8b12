"""Answers while the online store hangs, fails, and after it is back."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import UnavailableError
from rf_platform.features.spec import FeatureSpec
from rf_platform.settings import Settings
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_REASON_UNSPECIFIED,
    DEGRADED_STORE_FOREIGN,
    DEGRADED_STORE_SILENT,
    Interaction,
    RetrieveRequest,
    SearchPlan,
    Session,
)

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


class Clock:
    """The circuit breaker's, which a slow machine does not move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Stands between the reads and the online store."""

    def __init__(self, rows: Any) -> None:
        self._read = rows.read
        self.going, self.fails, self.reads = Event(), False, 0
        self.going.set()

    def read(self, ids: Any, **options: Any) -> Any:
        self.reads += 1
        self.going.wait(20)
        if self.fails:
            raise ConnectionError("gone")
        return self._read(ids, **options)


@pytest.fixture
def served(home: Path) -> tuple[Any, Any]:
    from rf_platform.features.store import open_store
    from rf_serving.bundle.served import ServedBundle

    return ServedBundle.open(home / "bundles" / "tiny-run-1"), open_store(Settings(home=home, feature_repo=REPOSITORY))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retriever(served: tuple[Any, Any], clock: Clock) -> Iterator[Any]:
    from rf_serving.breaker import Breaker, BreakerOptions
    from rf_serving.retrieval.retriever import Retriever
    from rf_serving.retrieval.routing import Route
    from rf_serving.user_features.online_reader import OnlineReader

    reads = OnlineReader(Breaker(BreakerOptions(failures=3, pause=1.0), clock=clock), stuck_seconds=0.5)
    retriever = Retriever(Route.of(*served), reads=reads, fetch_seconds=10.0)
    yield retriever
    retriever.close()


def interposed(retriever: Any) -> Store:
    """Put a store that can fail behind all connections that are made from now on."""
    fetcher = retriever.routing.active.fetcher
    store = Store(fetcher._rows)
    fetcher._rows = type(
        "Rows", (), {"read": staticmethod(store.read), "close": lambda self: None, "is_local": False}
    )()
    fetcher._rows.connected = lambda wait_seconds: fetcher._rows
    return store


def ask(retriever: Any, user: int = 17, **values: Any) -> Any:
    from rf_serving.retrieval.query import Query

    return asyncio.run(retriever.retrieve(Query(subject=user, k=5, exclude_seen=True), **values))


def test_degraded_answers_are_computed_together(retriever: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from rf_serving.retrieval.degraded import degraded_answer
    from rf_serving.retrieval.query import Query
    from rf_serving.stage_timer import StageTimer, unobserved

    interposed(retriever).fails = True
    ask(retriever)  # makes the connection
    monkeypatch.setattr(retriever._batcher, "call", None)
    engine, rank_quick = retriever.engine, retriever.engine.rank_quick
    batches: list[int] = []

    def counted(asked: Any, fetched: Any = None) -> Any:
        batches.append(len(asked))
        return rank_quick(asked, fetched)

    monkeypatch.setattr(engine, "rank_quick", counted)

    async def together() -> list[Any]:
        queries = [Query(subject=user, k=5, exclude_seen=False) for user in range(1, 21)]
        return await asyncio.gather(*(retriever.retrieve(query) for query in queries))

    answers = asyncio.run(together())
    assert sum(batches) == 20
    assert max(batches) > 1
    alone = degraded_answer(engine, Query(subject=1, k=5, exclude_seen=False), StageTimer(unobserved))
    for answer in answers:
        assert (answer.items, answer.degraded, answer.cold) == (alone.items, DEGRADED_STORE_SILENT, True)
        assert answer.scores == pytest.approx(alone.scores, abs=1e-6)


def test_a_store_that_fails_is_left_alone_and_found_again(retriever: Any, clock: Clock) -> None:
    store = interposed(retriever)
    good = ask(retriever)
    assert not good.degraded
    store.fails = True
    answers = [ask(retriever) for _ in range(10)]
    assert all(answer.degraded and answer.cold and len(answer.items) == 5 for answer in answers)
    assert store.reads == 1 + 3  # then the circuit was open
    store.fails = False
    assert ask(retriever).degraded
    clock.now += 1.0
    assert ask(retriever).items == good.items
    store.fails = True
    with pytest.raises(UnavailableError, match=r"user_id 17 cannot be read"):
        ask(retriever, degrade=False)


def test_a_store_that_hangs_costs_no_more_than_the_budget(retriever: Any, clock: Clock) -> None:
    store = interposed(retriever)
    assert not ask(retriever).degraded
    store.going.clear()
    for _ in range(3):
        begin = time.monotonic()
        assert ask(retriever, fetch_seconds=0.05).degraded
        assert time.monotonic() - begin < 5
    hung = store.reads
    assert ask(retriever).degraded  # at once, the circuit is open
    assert store.reads == hung
    time.sleep(0.6)
    clock.now += 1.0
    reader = retriever._reads._reader
    assert ask(retriever, fetch_seconds=0.05).degraded  # the probe, by a new thread in place of the one that hangs
    assert retriever._reads._reader is not reader
    store.going.set()
    clock.now += 2.0
    assert not ask(retriever).degraded


def test_a_backlog_of_ones_own_is_no_fault_of_the_store(retriever: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rf_serving.retrieval.query import Query
    from rf_serving.user_features import online_reader

    store = interposed(retriever)
    read = store.read

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.1)
        return read(*arguments, **options)

    monkeypatch.setattr(online_reader, "_TOGETHER", 1)
    monkeypatch.setattr(retriever.routing.active.fetcher._rows, "read", slowly)

    async def together() -> list[Any]:
        query = Query(subject=17, k=5, exclude_seen=True)
        return await asyncio.gather(*(retriever.retrieve(query, fetch_seconds=0.55) for _ in range(12)))

    late = [answer.degraded for answer in asyncio.run(together())]
    assert not late[0]
    assert sum(late) >= 4
    assert not retriever._reads.breaker.is_open


def test_users_who_ask_together_are_read_together(retriever: Any) -> None:
    from rf_serving.retrieval.query import Query

    store = interposed(retriever)
    users = list(range(1, 31))
    alone = [ask(retriever, user).items for user in users]
    store.going.clear()
    store.reads = 0

    async def together() -> list[Any]:
        queries = [retriever.retrieve(Query(subject=u, k=5, exclude_seen=True), 20) for u in users]
        asyncio.get_running_loop().call_later(0.2, store.going.set)
        return await asyncio.gather(*queries)

    assert [answer.items for answer in asyncio.run(together())] == alone
    assert store.reads <= 3


def test_without_a_profile_the_most_popular_items_are_returned(served: tuple[Any, Any]) -> None:
    from rf_serving.retrieval.degraded import popular_answer
    from rf_serving.retrieval.engine import Engine
    from rf_serving.retrieval.query import Query
    from rf_serving.stage_timer import StageTimer

    bundle, _ = served
    engine = Engine(bundle)
    counts = dict(zip(bundle.item_ids, bundle.popularity_N.tolist(), strict=True))
    asked = Filter(deny_items=[str(max(counts, key=lambda item: counts[item]))])
    for given, left_out in ((None, set()), (asked, set(asked.deny_items))):
        query = Query(subject=17, k=7, exclude_seen=True, filter=given)
        answer = popular_answer(engine, query, StageTimer(lambda stage, seconds: None))
        eligible = sorted((n for item, n in counts.items() if str(item) not in left_out), reverse=True)
        assert [counts[int(item)] for item in answer.items] == eligible[:7]
        assert not left_out & set(answer.items)
        assert answer.degraded
        assert answer.plan.strategy == SearchPlan.POPULAR
        assert answer.plan.eligible == len(counts) - len(left_out)
        assert np.isclose(answer.scores[0], eligible[0] / sum(counts.values()))


def test_popularity_is_for_models_without_profiles(served: tuple[Any, Any]) -> None:
    from rf_serving.retrieval.degraded import degraded_answer
    from rf_serving.retrieval.engine import Engine
    from rf_serving.retrieval.query import Query
    from rf_serving.stage_timer import StageTimer

    bundle, _ = served
    query = Query(subject=17, k=7, exclude_seen=True)
    with_profile = degraded_answer(Engine(bundle), query, StageTimer(lambda stage, seconds: None))
    assert with_profile.plan.strategy != SearchPlan.POPULAR
    spec: FeatureSpec = bundle.spec
    engine = Engine(bundle)
    engine.bundle = dataclasses.replace(
        bundle, spec=dataclasses.replace(spec, fields=tuple(f for f in spec.fields if f.side != "user"))
    )
    without = degraded_answer(engine, query, StageTimer(lambda stage, seconds: None))
    assert without.plan.strategy == SearchPlan.POPULAR


def test_the_reply_says_so(home_copy: Path, start_server: Callable[..., Any]) -> None:
    with start_server(Settings(home=home_copy, feature_repo=REPOSITORY)) as running:
        request = RetrieveRequest(user_id="17", k=5, exclude_seen=True, return_history=True)
        assert not running.stub.Retrieve(request).degraded
        store = interposed(running.retriever)
        running.retriever._reads._reader.connected.clear()
        store.fails = True
        answer = running.stub.Retrieve(request)
        assert answer.degraded
        assert answer.cold
        assert len(answer.items) == 5
        assert not answer.history


def until(asked: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Ask until the answer is one."""
    end = time.monotonic() + seconds
    while not (found := asked()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def moved(home: Path) -> Settings:
    """A copy of the workspace whose features are registered for its own tables."""
    from rf_platform.features.apply import apply_definitions

    settings = Settings(home=home, feature_repo=REPOSITORY)
    apply_definitions(settings)
    return settings


def test_a_store_of_another_log_is_said_with_each_answer(home_copy: Path, start_server: Callable[..., Any]) -> None:
    """Users are answered from what it has; a session needs no store."""
    from rf_platform.features.materialize import materialize

    settings = moved(home_copy)
    (settings.workspace.events / "log.db").unlink()  # the server makes another
    request = RetrieveRequest(user_id="1", k=5, return_history=True)
    with start_server(settings) as server:
        answer = until(lambda: (found := server.stub.Retrieve(request)).degraded and found)
        assert answer.degraded_reason == DEGRADED_STORE_FOREIGN
        assert answer.history
        session = RetrieveRequest(session=Session(history=[Interaction(item_id=answer.items[0].item_id)]), k=5)
        assert not server.stub.Retrieve(session).degraded
        materialize(settings)
        whole = until(lambda: not (found := server.stub.Retrieve(request)).degraded and found)
        assert whole.degraded_reason == DEGRADED_REASON_UNSPECIFIED
        assert (whole.items, whole.history) == (answer.items, answer.history)


def test_a_store_whose_file_is_gone_is_loaded_again(home_copy: Path, start_server: Callable[..., Any]) -> None:
    """No answer is a cold one without a word."""
    settings = moved(home_copy)
    request = RetrieveRequest(user_id="1", k=5, return_history=True)
    with start_server(settings) as server:
        whole = until(lambda: not (found := server.stub.Retrieve(request)).degraded and found)
        assert whole.history
        for file in settings.workspace.feast.glob("online.db*"):
            file.unlink()
        answers = [whole]

        def back() -> bool:
            answers.append(server.stub.Retrieve(request))
            return len(answers) > 20 and not answers[-1].degraded

        until(back)
    assert {answer.degraded_reason for answer in answers} >= {DEGRADED_STORE_SILENT}
    assert all(answer.history == whole.history for answer in answers if not answer.degraded)
    assert answers[-1].items == whole.items
