"""Random and malformed requests: never a crash, never INTERNAL for a caller's mistake. `make fuzz` sends many more."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from structlog.testing import LogCapture

from rf_fuzz.requests import SERVICES, requests
from rf_fuzz.verdict import Verdict, ask_all
from rf_fuzz.words import Words
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

COUNT = 1200


def fuzzed(running: Any, seed: int, count: int = COUNT) -> Verdict:
    return asyncio.run(ask_all(running.server.address, requests(seed, count, Words()), together=8))


@pytest.mark.both_fronts
def test_every_answer_is_one_that_a_caller_can_use(
    pair: Settings, start_server: Callable[..., Any], logs: LogCapture
) -> None:
    logs.entries.clear()  # of other tests
    with start_server(pair) as running:
        verdict = fuzzed(running, seed=1)
        assert verdict.violations == []
        assert verdict.requests == COUNT
        assert not [entry for entry in logs.entries if entry["event"] == "failed"]
        for service in SERVICES:
            for method in service.methods:
                if method.name != "SimilarItems":  # which few of so many random requests get right
                    assert verdict.statuses[f"{method.name} OK"], f"no request to {method.name} got through"
                if method.name != "GetDeployment":
                    assert verdict.statuses[f"{method.name} INVALID_ARGUMENT"] > 10
        assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=3)).items
        assert running.admission.active == 0


def test_a_server_error_would_be_noticed(
    pair: Settings, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_server(pair) as running:

        async def broken(*_: Any) -> None:
            raise KeyError("k")

        monkeypatch.setattr(running.retriever, "retrieve", broken)
        monkeypatch.setattr(running.retriever.engine, "rank_quick", None)
        verdict = fuzzed(running, seed=2, count=1000)
        assert {violation.status for violation in verdict.violations} == {grpc.StatusCode.INTERNAL.name}
        assert {violation.path.rpartition("/")[2] for violation in verdict.violations} == {"Retrieve"}


def test_the_same_seed_gives_the_same_requests() -> None:
    first, again, other = (list(requests(seed, 300, Words())) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert {request.kind for request in first} == {
        "well-formed",
        "flipped",
        "cut",
        "of another method",
        "joined",
        "wrong text",
        "lying length",
        "noise",
    }
    assert len({request.path for request in first}) == sum(len(service.methods) for service in SERVICES)
