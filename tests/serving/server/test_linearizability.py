"""One item, written and read through two servers with two bundles each: which orders of events a recorded history allows.

The checker is that of Wing and Gong (1993) with Lowe's memory of states: it looks for one order of all operations that a plain
variable could have had.
"""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import permutations
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, GetItemsRequest, Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"
KEY, YEAR = "900", "item_attributes__release_year"
GONE, THERE = None, -1
"""Values of a read: the item is not there; it is, in whatever version."""


class Operation(NamedTuple):
    """A call, from before it was sent until after its answer came."""

    begin: float
    end: float
    value: int | None
    """Version that was written or read."""
    server: str = "A"
    bundle: str = ""
    """Which bundle's catalog was read; empty: a write."""


def precedes(first: Operation, second: Operation, lag: float) -> bool:
    """Whether an operation has to see, or follow, another one.

    At once: writes follow whatever ended before them; reads follow writes at their server, and earlier reads of the same catalog.
    Of all else a read may know nothing until ``lag`` seconds later.
    """
    same_catalog = (first.server, first.bundle) == (second.server, second.bundle)
    at_once = not second.bundle or same_catalog or (not first.bundle and first.server == second.server)
    return first.end + (0 if at_once else lag) < second.begin


def allows(value: int | None, operation: Operation) -> bool:
    """Whether an operation may come next where the item has a value."""
    if not operation.bundle or operation.value == value:
        return True
    return operation.value == THERE and value is not GONE


def linearizable(history: Sequence[Operation], lag: float = 0.0) -> bool:
    """Whether there is an order of all operations in which every read returns what the last write before it wrote."""
    before = [sum(1 << n for n, each in enumerate(history) if precedes(each, op, lag)) for op in history]
    everything = (1 << len(history)) - 1
    open_states: list[tuple[int, int | None]] = [(0, GONE)]
    known = set(open_states)
    while open_states:
        done, value = open_states.pop()
        ready = [n for n, needed in enumerate(before) if not done >> n & 1 and not needed & ~done]
        # A read that fits changes nothing, so it may as well come now.
        reads = sum(1 << n for n in ready if history[n].bundle and allows(value, history[n]))
        if done | reads == everything:
            return True
        writes = [] if reads else [n for n in ready if not history[n].bundle]
        following = [(done | reads, value)] if reads else [(done | 1 << n, history[n].value) for n in writes]
        open_states.extend(state for state in following if state not in known)
        known.update(following)
    return not history


write, read = Operation, partial(Operation, bundle=FIRST)


@pytest.mark.parametrize(
    ("history", "lag", "expected"),
    [
        ([], 0, True),
        ([write(0, 1, 1), read(2, 3, 1), write(4, 5, GONE), read(6, 7, GONE)], 0, True),
        ([read(0, 1, 1), write(2, 3, 1)], inf, False),  # from the future
        ([write(0, 1, 1), read(2, 3, GONE)], inf, False),  # an acknowledged upsert is missed
        ([write(0, 1, 1), write(2, 3, GONE), read(4, 5, 1)], inf, False),  # a deleted item comes back
        ([write(0, 1, 1), read(2, 3, 2)], inf, False),  # nobody wrote that
        ([write(0, 1, 1), read(2, 3, THERE), write(4, 5, GONE), read(6, 7, THERE)], inf, False),
        # while a write goes on, it may be seen or not, but then it stays
        ([write(0, 9, 1), read(1, 2, GONE), read(3, 4, 1)], 0, True),
        ([write(0, 9, 1), read(1, 2, 1), read(3, 4, GONE)], inf, False),
        # two bundles of a server may differ until the write is acknowledged
        ([write(0, 9, 1), read(1, 2, 1), Operation(3, 4, GONE, bundle=SECOND)], inf, True),
        ([write(0, 2, 1), read(1, 2, 1), Operation(3, 4, GONE, bundle=SECOND)], inf, False),
        # two writes at once: whatever their order, it is one
        ([write(0, 9, 1), write(0, 9, 2), read(1, 2, 1), read(3, 4, 2)], 0, True),
        ([write(0, 9, 1), write(0, 9, 2), read(1, 2, 1), read(3, 4, 2), read(5, 6, 1)], inf, False),
        (
            [write(0, 9, n) for n in (1, 2)]
            + [read(n, n + 0.5, v) for n, v in ((1, 1), (2, 2))]
            + [read(n, n + 0.5, v, server="B") for n, v in ((1, 2), (2, 1))],
            inf,
            False,
        ),
        # another server sees a write within the lag, or at any time if that has no bound
        ([write(0, 1, 1), read(1.5, 3, GONE, server="B")], 0, False),
        ([write(0, 1, 1), read(1.5, 3, GONE, server="B")], 1, True),
        ([write(0, 1, 1), read(2.5, 3, GONE, server="B")], 1, False),
        ([write(0, 1, 1), read(2.5, 3, GONE, server="B")], inf, True),
        # but never goes back, and with its own writes it has all that came before them
        ([write(0, 1, 1), read(2, 3, 1, server="B"), read(4, 5, GONE, server="B")], inf, False),
        ([write(0, 1, 1), write(2, 3, 2, server="B"), read(4, 5, 1, server="B")], inf, False),
    ],
)
def test_the_checker_allows_what_is_promised(history: list[Operation], lag: float, expected: bool) -> None:
    assert linearizable(history, lag) is expected
    assert linearizable(history[::-1], lag) is expected


def in_some_order(history: Sequence[Operation], lag: float) -> bool:
    for order in permutations(history):
        value, fits = GONE, True
        for place, operation in enumerate(order):
            fits = (
                fits and allows(value, operation) and not any(precedes(o, operation, lag) for o in order[place + 1 :])
            )
            value = value if operation.bundle else operation.value
        if fits:
            return True
    return False


def test_the_checker_agrees_with_trying_all_orders() -> None:
    rng = random.Random(3)
    verdicts = []
    for _ in range(400):
        history = []
        for _ in range(5):
            begin = rng.uniform(0, 4)
            end, bundle = begin + rng.uniform(0, 2), rng.choice(["", FIRST, SECOND])
            history.append(Operation(begin, end, rng.choice([GONE, 1, 2]), rng.choice("AB"), bundle))
        lag = rng.choice([0, 0.5, inf])
        verdicts.append(linearizable(history, lag))
        assert verdicts[-1] is in_some_order(history, lag), (history, lag)
    assert 50 < sum(verdicts) < 350


class Client:
    """Writes and reads the item at one server, and records what it did."""

    def __init__(self, server: str, running: Any) -> None:
        self.history: list[Operation] = []
        self._server, self._retrieval = server, running.stub
        self._catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]

    def write(self, version: int | None) -> None:
        begin = perf_counter()
        if version is None:
            self._catalog.DeleteItems(DeleteItemsRequest(item_ids=[KEY]))
        else:
            item = Item(item_id=KEY, features={YEAR: FeatureValue(int_value=version)})
            self._catalog.UpsertItems(UpsertItemsRequest(items=[item]))
        self._add(begin, version)

    def get(self) -> int | None:
        begin = perf_counter()
        found = self._catalog.GetItems(GetItemsRequest(item_ids=[KEY])).items
        version = found[0].item.features[YEAR].int_value if found else GONE
        self._add(begin, version, FIRST)
        return version

    def retrieve(self, user: str) -> str:
        begin = perf_counter()
        answer = self._retrieval.Retrieve(RetrieveRequest(user_id=user, k=100))
        self._add(begin, THERE if KEY in {item.item_id for item in answer.items} else GONE, answer.bundle)
        bundle: str = answer.bundle
        return bundle

    def _add(self, begin: float, value: int | None, bundle: str = "") -> None:
        self.history.append(Operation(begin, perf_counter(), value, self._server, bundle))


@pytest.mark.both_fronts
def test_two_servers_with_two_bundles_each_keep_the_promise(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    pair_registry.traffic.split(SECOND, 50)
    with start_server(pair, poll_seconds=0.02) as one, start_server(pair, poll_seconds=0.02) as two:
        servers = {"A": one, "B": two}
        for running in servers.values():
            wait_until(lambda running=running: running.parts.deployments.serving.percent == 50)
        user_of = {
            one.stub.Retrieve(RetrieveRequest(user_id=str(user), k=1)).bundle: str(user) for user in range(1, 31)
        }
        writers = [Client(server, running) for server, running in servers.items()]
        readers = [Client(server, running) for server, running in servers.items()]
        ended = threading.Event()

        def change(number: int) -> None:
            rng, client = random.Random(number), writers[number]
            for turn in range(10):
                client.write(GONE if rng.random() < 0.4 else 1900 + 2 * turn + number)
                for user in user_of.values():
                    client.retrieve(user)
                client.get()

        def look(client: Client) -> None:
            while not ended.is_set():
                client.get()
                for user in user_of.values():
                    client.retrieve(user)

        with ThreadPoolExecutor(4) as threads:
            looking = [threads.submit(look, reader) for reader in readers]
            try:
                list(threads.map(change, range(2)))
            finally:
                ended.set()
            for each in looking:
                each.result()
        writers[0].write(1999)
        wait_until(lambda: {client.get() for client in writers} == {1999})
        for client in writers:
            assert {client.retrieve(user) for user in user_of.values()} == {FIRST, SECOND}
    history = [operation for client in (*readers, *reversed(writers)) for operation in client.history]
    assert len(history) > 100
    assert linearizable(history, lag=inf)
    # the checker would have noticed one user who misses an acknowledged write
    place, last = [(n, each) for n, each in enumerate(history) if each.server == "A" and each.bundle == SECOND][-1]
    history[place] = last._replace(value=GONE)
    assert not linearizable(history, lag=inf)
