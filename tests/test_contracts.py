"""What clients rely on in the contracts only grows: ``infra/breaking.py``."""

import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[1]
PACKAGE = "retrievalformer.v1"


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "infra"))
    import breaking  # type: ignore[import-not-found]

    yield breaking
    del sys.modules["breaking"]


def contracts() -> FileDescriptorSet:
    from rf_protos.v1 import (
        catalog_pb2,
        deployment_pb2,
        explanation_pb2,
        features_pb2,
        feedback_pb2,
        filter_pb2,
        retrieval_pb2,
    )

    files = FileDescriptorSet()
    for each in (catalog_pb2, deployment_pb2, explanation_pb2, features_pb2, feedback_pb2, filter_pb2, retrieval_pb2):
        each.DESCRIPTOR.CopyToProto(files.file.add())
    return files


def test_the_record_is_that_of_the_contracts(breaking: Any) -> None:
    assert (ROOT / "protos" / "contracts.json").read_text() == breaking.record(contracts(), PACKAGE), "run `make stubs`"


def message(file: FileDescriptorProto, name: str) -> Any:
    return next(each for each in file.message_type if each.name == name)


def test_what_clients_would_break_at_is_named_and_additions_are_not(breaking: Any) -> None:
    files = contracts()
    before = breaking.record(files, PACKAGE)
    retrieval = next(file for file in files.file if file.service and file.service[0].name == "RetrievalService")
    message(retrieval, "RetrieveRequest").field.add(name="later", number=900, type=9, label=1)
    assert breaking.broken(before, breaking.record(files, PACKAGE)) == []
    of_item = message(retrieval, "ScoredItem")
    of_item.field[0].name = "id"
    of_item.field[1].type = 1
    del retrieval.service[0].method[:]
    retrieval.enum_type[0].value[1].number = 77
    session = message(retrieval, "Session")
    session.reserved_range.add(start=session.field[2].number, end=session.field[2].number + 1)
    del session.field[2]
    faults = breaking.broken(before, breaking.record(files, PACKAGE))
    assert "ScoredItem field 1 was `string item_id` and is `string id`" in faults
    assert "ScoredItem field 2 was `float score` and is `double score`" in faults
    assert any(fault.startswith("RetrievalService.Retrieve was") and fault.endswith("gone") for fault in faults)
    assert any(fault.startswith("Rerank value 1 was") for fault in faults)
    assert not any(fault.startswith("Session") for fault in faults)
