"""Contracts say the statuses that the server answers with: ``infra/check_contracts.py``."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from rf_platform.errors import CorruptError, NotFoundError, RfError, RunError, UnavailableError, UnsupportedError
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.server.rpc import METHOD_STATUSES, STATUSES

ROOT = Path(__file__).parents[3]
PROTOS = sorted((ROOT / "protos" / "rf_protos" / "v1").glob("*.proto"))


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_contracts", ROOT / "infra" / "check_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("proto", [p for p in PROTOS if "rpc " in p.read_text()], ids=lambda path: path.stem)
def test_a_contract_that_says_other_statuses_or_none_is_corrected(check: ModuleType, proto: Path) -> None:
    right = proto.read_text()
    assert right.count("  // Errors: ") == right.count("  rpc ")
    assert check.with_statuses(right.replace("UNAVAILABLE", "ABORTED")) == right
    assert check.with_statuses(re.sub(r"  // Errors: [^.]*\.\n", "", right)) == right


def test_a_method_without_statuses_is_no_contract_of_ours(check: ModuleType) -> None:
    with pytest.raises(KeyError, match="Forget"):
        check.with_statuses("service CatalogService {\n  // Forgets.\n  rpc Forget(Request) returns (Response);\n}\n")


def test_all_statuses_are_grpcs_and_have_a_meaning() -> None:
    used = {status for methods in METHOD_STATUSES.values() for statuses in methods.values() for status in statuses}
    assert used == set(STATUSES) <= {status.name for status in grpc.StatusCode}


@pytest.mark.both_fronts
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError, "UNAVAILABLE"),
        (CorruptError, "DATA_LOSS"),
        (RunError, "INTERNAL"),
        (NotFoundError, "INTERNAL"),  # not one of Retrieve's
        (UnsupportedError, "FAILED_PRECONDITION"),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_no_method_answers_with_another_status(
    server: Any, monkeypatch: pytest.MonkeyPatch, error: type[RfError], status: str, quick: bool
) -> None:
    if quick and error is UnavailableError:
        pytest.skip("answered degraded")

    async def fails(*_: Any) -> Any:
        raise error("no /srv/secret")

    def fails_at_once(*_: Any) -> Any:
        raise error("no /srv/secret")

    if quick:
        monkeypatch.setattr(server.retriever.engine, "rank_quick", fails_at_once)
    else:
        monkeypatch.setattr(server.retriever, "retrieve", fails)
        monkeypatch.setattr(server.retriever, "take", lambda *_: None)
    with pytest.raises(grpc.RpcError) as raised:
        server.stub.Retrieve(RetrieveRequest(user_id="1", k=1))
    assert raised.value.code() is grpc.StatusCode[status]
    assert ("/srv/secret" in (raised.value.details() or "")) == error.told
