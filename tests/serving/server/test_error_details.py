"""Details of errors for programs: by either front, and for messages that name no field, none."""

from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.server.error_details import STATUS_DETAILS, status_details

WRONG = RetrieveRequest(k=3, session=Session(history=[Interaction(item_id="x")]))


@pytest.mark.both_fronts
def test_the_field_is_named_beside_the_text(server: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        server.stub.Retrieve(WRONG, metadata=[("x-request-id", "mine")])
    trailers: dict[str, Any] = dict(cast(Any, raised.value.trailing_metadata()))
    assert trailers["x-request-id"] == "mine"
    bad = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(trailers[STATUS_DETAILS]).details[0].Unpack(bad)
    assert bad.field_violations[0].field == "session.history[0].item_id"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("k: 0 is not possible", "k"),
        ('session.profile["view__x"]: no', 'session.profile["view__x"]'),
        ("filter.where[2].any[0].value: a, b: c", "filter.where[2].any[0].value"),
        ("the request is no message that Retrieve takes: broken", None),
        ("subject", None),
    ],
)
def test_what_is_a_field(text: str, field: str | None) -> None:
    found = status_details(grpc.StatusCode.INVALID_ARGUMENT, text)
    assert (found is None) == (field is None)
    if found is not None:
        bad = error_details_pb2.BadRequest()
        assert status_pb2.Status.FromString(found).details[0].Unpack(bad)
        assert bad.field_violations[0].field == field
    assert status_details(grpc.StatusCode.UNAVAILABLE, text) is None
