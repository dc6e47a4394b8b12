"""Requests that are computed together get their own answers, and only they wait who have to."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep, thread_time
from typing import Any, cast

import grpc
import pytest

from rf_platform.errors import OverloadedError, RfError, UsageError
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, Interaction, RetrieveRequest, Session
from rf_serving import threads
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval import inline_batcher
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.inline_batcher import InlineBatcher
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.thread_batcher import BatchLimits, ThreadBatcher
from rf_serving.stage_timer import StageTimer

SOME_GENRES = Filter(
    where=[
        Predicate(
            feature="item_attributes__genres",
            operator=Predicate.ANY_OF,
            value=FeatureValue(string_list=StringList(values=["War", "Drama"])),
        )
    ]
)


@pytest.fixture(scope="module")
def engine(home: Path) -> Engine:
    return Engine(ServedBundle.open(home / "bundles" / "tiny-run-1"))


def session_ask(*items: str, k: int = 10, **fields: Any) -> RankRequest:
    session = Session(history=[Interaction(item_id=item) for item in items])
    query = Query(subject=session, k=k, exclude_seen=fields.pop("exclude_seen", True), **fields)
    return RankRequest(query=query, watch=StageTimer(lambda stage, seconds: None), features=None)


def asks() -> list[RankRequest]:
    return [
        session_ask("1", "2", "3"),
        session_ask(k=60),
        session_ask("5", k=3, filter=SOME_GENRES),
        session_ask("5", "6", exclude_seen=False, filter=SOME_GENRES),
        session_ask(*map(str, range(1, 20)), k=60),
        session_ask("7", filter=Filter(allow_items=["8", "9", "7", "999"])),
    ]


def assert_same(found: Answer | RfError, expected: Answer | RfError) -> None:
    assert isinstance(found, Answer)
    assert isinstance(expected, Answer)
    assert found.items == expected.items
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert (found.history, found.cold, found.plan) == (expected.history, expected.cold, expected.plan)


def test_answers_are_those_of_requests_alone_in_their_order(engine: Engine) -> None:
    alone = [engine.rank_many([ask])[0] for ask in asks()]
    together = engine.rank_many(asks())
    assert len(together) == len(alone)
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


def test_an_error_is_one_requests_own(engine: Engine) -> None:
    alone = [engine.rank_many([ask])[0] for ask in asks()]
    wrong = [
        session_ask("61"),
        session_ask(filter=Filter(where=[Predicate(feature="nothing", operator=Predicate.PRESENT)])),
        session_ask(filter=Filter(deny_items=["x"])),
    ]
    assert isinstance(wrong[0].query.subject, Session)
    wrong[0].query.subject.strict = True
    extreme = session_ask("1")
    assert isinstance(extreme.query.subject, Session)
    extreme.query.subject.history[0].context["interaction_context__ratings"].double_value = 1e30
    mixed = [wrong[0], *asks()[:3], wrong[1], extreme, *asks()[3:], wrong[2]]
    found = engine.rank_many(mixed)
    messages = [str(each) for each in found if isinstance(each, RfError)]
    assert [message.split(":")[0] for message in messages] == [
        "session.history[0].item_id",
        "filter.where[0].feature",
        'session.history[0].context["interaction_context__ratings"]',
        "filter.deny_items[0]",
    ]
    for answer, expected in zip([each for each in found if isinstance(each, Answer)], alone, strict=True):
        assert_same(answer, expected)


class Slow:
    """An engine that notes its batches and takes as long as it is told."""

    def __init__(self, engine: Engine, seconds: float = 0.05) -> None:
        self._engine, self.seconds = engine, seconds
        self.batches: list[list[RankRequest]] = []
        self.began = threading.Event()

    def rank_many(self, asked: Sequence[RankRequest]) -> list[Answer | RfError]:
        self.batches.append(list(asked))
        self.began.set()
        sleep(self.seconds)
        return self._engine.rank_many(asked)

    def rank_quick(self, asked: Sequence[Any], fetched: Any = None) -> list[QuickAnswer | RfError]:
        self.batches.append(list(asked))
        self.began.set()
        sleep(self.seconds)
        return self._engine.rank_quick(asked, fetched)


@pytest.fixture
def slow(engine: Engine) -> Any:
    return Slow(engine)


@pytest.fixture
def batcher() -> Iterator[ThreadBatcher]:
    batcher = ThreadBatcher(limits=BatchLimits(most=4, collect_seconds=0.02, waiting=10))
    yield batcher
    batcher.close()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0.001)


def test_what_comes_meanwhile_is_the_next_batch(batcher: ThreadBatcher, slow: Any) -> None:
    async def run() -> list[Answer]:
        first = asyncio.create_task(batcher.rank(slow, session_ask("1")))
        await until(slow.began.is_set)
        others = [asyncio.create_task(batcher.rank(slow, session_ask(str(n)))) for n in range(2, 8)]
        return list(await asyncio.gather(first, *others))

    answers = asyncio.run(run())
    assert [len(batch) for batch in slow.batches] == [1, 4, 2]
    assert [answer.history for answer in answers] == [[str(n)] for n in range(1, 8)]


def test_a_lone_request_does_not_wait_even_if_others_are_expected(engine: Engine) -> None:
    batcher = ThreadBatcher(limits=BatchLimits(collect_seconds=5.0))
    try:
        with batcher.expecting():
            begin = perf_counter()
            asyncio.run(batcher.rank(engine, session_ask("1")))
            assert perf_counter() - begin < 2
    finally:
        batcher.close()


@pytest.mark.parametrize("expected", [True, False])
def test_behind_a_batch_requests_wait_for_those_that_are_expected_and_no_longer_than_agreed(
    slow: Any, expected: bool
) -> None:
    slow.seconds = 0.1
    batcher = ThreadBatcher(limits=BatchLimits(collect_seconds=0.4))

    async def run() -> None:
        first = asyncio.create_task(batcher.rank(slow, session_ask("1")))
        await until(slow.began.is_set)
        second = asyncio.create_task(batcher.rank(slow, session_ask("2")))
        if expected:
            with batcher.expecting():
                await asyncio.sleep(0.2)
        else:
            await asyncio.sleep(0.2)
        third = asyncio.create_task(batcher.rank(slow, session_ask("3")))
        await asyncio.gather(first, second, third)

    try:
        asyncio.run(run())
    finally:
        batcher.close()
    assert [len(batch) for batch in slow.batches] == ([1, 2] if expected else [1, 1, 1])


def test_who_has_gone_is_not_computed(batcher: ThreadBatcher, slow: Any) -> None:
    async def run() -> None:
        first = asyncio.create_task(batcher.rank(slow, session_ask("1")))
        await until(slow.began.is_set)
        gone, stays = (asyncio.create_task(batcher.rank(slow, session_ask(n))) for n in ("2", "3"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(first, stays)
        assert gone.cancelled()

    asyncio.run(run())
    assert [[ask.query.subject.history[0].item_id for ask in batch] for batch in slow.batches] == [["1"], ["3"]]


def test_a_full_queue_refuses(batcher: ThreadBatcher, slow: Any) -> None:
    async def run() -> None:
        tasks = [asyncio.create_task(batcher.rank(slow, session_ask("1")))]
        await until(slow.began.is_set)
        tasks += [asyncio.create_task(batcher.rank(slow, session_ask("1"))) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="10 requests wait"):
            await batcher.rank(slow, session_ask("1"))
        assert len(await asyncio.gather(*tasks)) == 11

    asyncio.run(run())


def test_one_engine_a_batch_and_no_engine_is_passed_over(batcher: ThreadBatcher, engine: Engine, slow: Any) -> None:
    other = Slow(engine, 0.0)

    async def run() -> list[str]:
        order: list[str] = []

        async def one(name: str, made: Any) -> None:
            await batcher.rank(made, session_ask("1"))
            order.append(name)

        tasks = [asyncio.create_task(one("first", slow))]
        await until(slow.began.is_set)
        for n, made in enumerate((slow, other, slow, other, slow, slow, slow)):
            tasks.append(asyncio.create_task(one(f"{'other' if made is other else 'slow'} {n}", made)))
        await asyncio.gather(*tasks)
        return order

    order = asyncio.run(run())
    assert order == ["first", "slow 0", "slow 2", "slow 4", "slow 5", "other 1", "other 3", "slow 6"]
    assert [len(batch) for batch in slow.batches] == [1, 4, 1]
    assert [len(batch) for batch in other.batches] == [2]


def test_a_bug_that_one_request_meets_is_its_own(batcher: ThreadBatcher, engine: Engine) -> None:
    class Buggy(Slow):
        def rank_many(self, asked: Sequence[RankRequest]) -> list[Answer | RfError]:
            found = super().rank_many(asked)
            if any(ask.query.k == 13 for ask in asked):
                raise ZeroDivisionError
            return found

    buggy = cast(Any, Buggy(engine))

    async def run() -> list[Any]:
        first = asyncio.create_task(batcher.rank(buggy, session_ask("1")))
        await until(buggy.began.is_set)
        tasks = [asyncio.create_task(batcher.rank(buggy, session_ask("1", k=k))) for k in (12, 13, 14)]
        return [await first, *(await asyncio.gather(*tasks, return_exceptions=True))]

    found = asyncio.run(run())
    assert [type(each) for each in found] == [Answer, Answer, ZeroDivisionError, Answer]


def test_other_work_is_done_between_batches(batcher: ThreadBatcher) -> None:
    async def run() -> str:
        with pytest.raises(UsageError, match="wrong"):
            await batcher.call(lambda: (_ for _ in ()).throw(UsageError("wrong")))
        return await batcher.call(lambda: threading.current_thread().name)

    assert asyncio.run(run()) == "rf-compute"


def test_closing_cancels_who_waits(slow: Any) -> None:
    batcher = ThreadBatcher()

    async def run() -> None:
        first = asyncio.create_task(batcher.rank(slow, session_ask("1")))
        await until(slow.began.is_set)
        waits = asyncio.create_task(batcher.rank(slow, session_ask("2")))
        await asyncio.sleep(0)
        batcher.close()
        assert (await first).history == ["1"]
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(asyncio.CancelledError):
            await batcher.rank(slow, session_ask("3"))

    asyncio.run(run())


NO_READS = cast(Any, None)
"""Sessions need none."""


def quick_query(*items: str, k: int = 10) -> Query:
    return session_ask(*items, k=k).query


async def history(batcher: InlineBatcher, engine: Any, item: str) -> list[str]:
    return (await batcher.rank(engine, quick_query(item))).answer().history


@contextmanager
def expecting(batcher: InlineBatcher) -> Iterator[None]:
    """Stand for a request with a read in progress, until the end of the block."""
    batcher._coming += 1
    try:
        yield
    finally:
        batcher._coming -= 1
        batcher._plan(asyncio.get_running_loop())


@pytest.fixture
def in_loop() -> Iterator[InlineBatcher]:
    yield (batcher := InlineBatcher(NO_READS, limits=BatchLimits(most=4, collect_seconds=0.02, waiting=10)))
    batcher.close()


def test_in_the_loop_requests_are_answered_together_in_batches_of_one_engine(
    in_loop: InlineBatcher, engine: Engine, slow: Any
) -> None:
    other = Slow(engine, 0.0)

    async def run() -> list[list[str]]:
        engines = [slow, slow, other, slow, slow, slow, other]
        return list(await asyncio.gather(*(history(in_loop, made, str(n)) for n, made in enumerate(engines, 1))))

    answers = asyncio.run(run())
    assert answers == [[str(n)] for n in range(1, 8)]
    assert [len(batch) for batch in slow.batches] == [4, 1]
    assert [len(batch) for batch in other.batches] == [2]


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_in_the_loop_requests_wait_for_those_that_are_read_and_no_longer_than_agreed(slow: Any, seconds: float) -> None:
    batcher = InlineBatcher(NO_READS, limits=BatchLimits(collect_seconds=seconds))
    slow.seconds = 0.0

    async def read_first() -> None:
        with expecting(batcher):
            await asyncio.sleep(0.1)
        await batcher.rank(slow, quick_query("2"))

    async def run() -> None:
        reading = asyncio.create_task(read_first())
        await asyncio.sleep(0)
        await asyncio.gather(batcher.rank(slow, quick_query("1")), reading)

    asyncio.run(run())
    assert [len(batch) for batch in slow.batches] == ([2] if seconds else [1, 1])


def test_after_a_batch_the_loop_takes_in_those_who_came_meanwhile(in_loop: InlineBatcher, slow: Any) -> None:
    """Each turn of the loop brings one call, as gRPC does; they are not computed one by one."""

    async def run() -> None:
        tasks = [asyncio.create_task(in_loop.rank(slow, quick_query(item))) for item in "12"]
        await until(slow.began.is_set)
        for item in "345":
            tasks.append(asyncio.create_task(in_loop.rank(slow, quick_query(item))))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert [len(batch) for batch in slow.batches] == [2, 3]


@pytest.mark.parametrize(
    ("changed", "batches"),
    [
        ({}, [1, 1, 1]),
        ({"_BUSY_LOAD": -1.0}, [1, 2]),
        ({"_LARGE_BATCH": 1}, [1, 1, 1]),
        ({"_LARGE_BATCH": 1, "_LONG_GAP_SECONDS": 10.0}, [1, 2]),
    ],
)
def test_only_a_busy_loop_waits_for_those_who_may_come(
    slow: Any, monkeypatch: pytest.MonkeyPatch, changed: dict[str, float], batches: list[int]
) -> None:
    """Little comes, or as much as the loop can do, or batches are large."""
    batcher = InlineBatcher(NO_READS)
    for name, value in {"_MOST_SHARE_SECONDS": 5.0, **changed}.items():
        monkeypatch.setattr(inline_batcher, name, value)

    async def run() -> None:
        slow.seconds = 0.3
        await batcher.rank(slow, quick_query("1"))
        slow.seconds = 0.0
        second = asyncio.create_task(batcher.rank(slow, quick_query("2")))
        await asyncio.sleep(0.05)
        await asyncio.gather(second, batcher.rank(slow, quick_query("3")))

    asyncio.run(run())
    assert [len(batch) for batch in slow.batches] == batches


def test_a_full_batch_leaves_no_timer_behind(slow: Any) -> None:
    """It would fire too early, or, in another event loop, never."""
    in_loop = InlineBatcher(NO_READS, limits=BatchLimits(most=4, collect_seconds=30.0, waiting=10))

    async def run() -> int:
        slow.seconds = 0.0
        with expecting(in_loop):
            waits = asyncio.create_task(in_loop.rank(slow, quick_query("1")))
            await until(lambda: in_loop._timer is not None)
            await asyncio.gather(waits, *(in_loop.rank(slow, quick_query(item)) for item in "234"))
            assert in_loop._timer is None
        return len(slow.batches)

    assert asyncio.run(run()) == 1


def test_the_load_is_the_share_of_the_time_that_the_loop_works(slow: Any) -> None:
    batcher = InlineBatcher(NO_READS)
    slow.seconds = 0.0

    async def run(working: bool) -> float:
        until = perf_counter() + 0.3
        while perf_counter() < until:
            if not working:
                await asyncio.sleep(0.05)
        await batcher.rank(slow, quick_query("1"))
        return batcher._load

    asyncio.run(run(False))
    idle, working = asyncio.run(run(False)), asyncio.run(run(True))
    assert 0 <= idle < 0.5 * working


def test_the_load_is_known_where_the_system_does_not_tell_who_waits_for_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any) -> Any:
        raise FileNotFoundError

    before = thread_time()
    told = threads.busy_seconds()
    assert threads.busy_seconds() >= told > 0
    monkeypatch.setattr(threads, "_own", threading.local())
    monkeypatch.setattr("os.open", missing)
    untold = threads.busy_seconds()
    monkeypatch.undo()
    assert told >= 0.9 * before
    assert before <= untold <= thread_time()


def test_a_slow_batch_sends_requests_elsewhere_for_a_while(
    in_loop: InlineBatcher, slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inline_batcher, "_PAUSE_SECONDS", 60.0
    )  # a busy machine takes more than the usual second to look
    asyncio.run(in_loop.rank(slow, quick_query("1")))
    assert not in_loop.slow
    slow.seconds = 0.31
    asyncio.run(in_loop.rank(slow, quick_query("1")))
    assert in_loop.slow
    monkeypatch.setattr(inline_batcher, "perf_counter", lambda: perf_counter() + 60.1)
    assert not in_loop.slow


def test_in_the_loop_who_has_gone_is_not_computed_and_a_full_queue_refuses(in_loop: InlineBatcher, slow: Any) -> None:
    async def run() -> None:
        tasks = [asyncio.create_task(in_loop.rank(slow, quick_query(str(n)))) for n in range(1, 11)]
        with expecting(in_loop):
            await asyncio.sleep(0)
            tasks[3].cancel()
            with pytest.raises(OverloadedError, match="10 requests wait"):
                await in_loop.rank(slow, quick_query("11"))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[3].cancelled()

    asyncio.run(run())
    computed = [query.subject.history[0].item_id for batch in slow.batches for query, _ in batch]
    assert computed == ["1", "2", "3", *map(str, range(5, 11))]


def test_in_the_loop_closing_cancels_who_waits(slow: Any) -> None:
    batcher = InlineBatcher(NO_READS)

    async def run() -> None:
        with expecting(batcher):
            waits = asyncio.create_task(batcher.rank(slow, quick_query("1")))
            await asyncio.sleep(0)
            batcher.close()
            with pytest.raises(asyncio.CancelledError):
                await waits
        with pytest.raises(asyncio.CancelledError):
            await batcher.rank(slow, quick_query("2"))

    asyncio.run(run())
    assert not slow.batches


def test_only_what_takes_a_millisecond_is_computed_in_the_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(query: Query) -> bool:
        return engine.quick(query, engine.order_of(query))

    assert quick(quick_query("1", k=100))
    assert quick(Query(subject="17", k=10, exclude_seen=True))
    assert not quick(quick_query("1", k=101))
    assert not quick(session_ask("1", filter=SOME_GENRES).query)
    assert not quick(session_ask("1", explain=True).query)
    assert not quick(session_ask("1", rerank=RERANK_EXACT).query)
    assert not quick(quick_query(*["1"] * 101))
    monkeypatch.setattr(engine, "_scan_seconds", 0.01)  # a scan of a million items
    assert not quick(quick_query("1"))


def test_filters_work_over_the_wire(stub: Any, server: Any) -> None:
    request = RetrieveRequest(user_id="17", k=60, filter=SOME_GENRES, exclude_seen=True)
    answer = stub.Retrieve(request)
    table = server.retriever.engine.catalog.snapshot.base.column("item_attributes__genres").to_pylist()
    passing = {str(item) for item, genres in enumerate(table, 1) if {"War", "Drama"} & set(genres)}
    seen = set(stub.Retrieve(RetrieveRequest(user_id="17", k=1, return_history=True)).history)
    assert {item.item_id for item in answer.items} == passing - seen
    assert answer.plan.eligible == len(passing)
    with ThreadPoolExecutor(8) as threads:
        for again in threads.map(stub.Retrieve, [request] * 32):
            assert [item.item_id for item in again.items] == [item.item_id for item in answer.items]


def test_a_wrong_filter_is_the_callers_mistake(stub: Any) -> None:
    wrong = Filter(where=[*SOME_GENRES.where, Predicate(feature="item_attributes__genre", operator=Predicate.PRESENT)])
    with pytest.raises(grpc.RpcError) as raised:
        stub.Retrieve(RetrieveRequest(user_id="17", k=3, filter=wrong))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == (
        "filter.where[1].feature: 'item_attributes__genre' is no feature or display field of items; "
        "did you mean item_attributes__genres?"
    )
