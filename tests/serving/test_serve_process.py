"""``rf serve`` as a process: its start message, and SIGTERM while calls are in flight."""

import time
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest

from rf_platform.errors import RunError
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
ENVIRONMENT = {"RF_FEATURE_REPO": str(REPOSITORY)}
SLOW = Session(history=[Interaction(item_id=str(1 + i % 60), timestamp_us=1 + i) for i in range(10_000)])


def active(port: int) -> float:
    lines = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("rf_active_requests ")))


@pytest.mark.parametrize("front", ["grpc", "http2"])
def test_sigterm_finishes_calls_in_flight_and_exits_with_0(home: Path, front: str) -> None:
    with BackgroundServer(home, ["--metrics-port", "0", "--front", front], ENVIRONMENT) as server:
        assert server.serving["bundle"] == "tiny-run-1"
        assert server.serving["items"] == 60
        assert server.serving["load_seconds"] > 0
        with grpc.insecure_channel(server.address) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            assert stub.Retrieve(RetrieveRequest(user_id="17", k=3)).items
            calls = [stub.Retrieve.future(RetrieveRequest(session=SLOW, k=3)) for _ in range(10)]
            deadline = time.monotonic() + 20
            while active(server.serving["metrics_port"]) < 3:
                assert time.monotonic() < deadline
            server.process.terminate()
            arrived = sum(call.exception() is None and len(call.result().items) == 3 for call in calls)
            assert arrived >= 3
        assert server.stop() == 0
    assert '"event": "draining"' in "".join(server.output)
    assert '"all_calls_finished": true' in server.output[-1]


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with (
        pytest.raises(RunError, match=r"did not start within .*\n.*--log-level='loud' is no level"),
        BackgroundServer(home, ["--log-level", "loud"], ENVIRONMENT),
    ):
        pass
