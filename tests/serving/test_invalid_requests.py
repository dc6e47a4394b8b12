"""Every request that cannot be answered names its field, with status INVALID_ARGUMENT."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.server.error_details import STATUS_DETAILS

DAY = 86_400_000_000


def asked(**fields: Any) -> RetrieveRequest:
    return RetrieveRequest(**{"k": 5, **fields})


def session(*history: Interaction, **profile: FeatureValue) -> RetrieveRequest:
    return asked(session=Session(history=history, profile=profile))


def item(item_id: str, timestamp_us: int = 0, **context: FeatureValue) -> Interaction:
    return Interaction(item_id=item_id, timestamp_us=timestamp_us, context=context)


def field_of(error: Any) -> str:
    """Return the field that the details for programs name."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[STATUS_DETAILS])
    assert (status.code, status.message) == (3, error.details())
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    (violation,) = bad.field_violations
    assert error.details() == f"{violation.field}: {violation.description}"
    return str(violation.field)


REFUSED = {
    "empty request": (RetrieveRequest(), "subject: "),
    "nobody": (asked(), "subject: "),
    "no k": (RetrieveRequest(user_id="1"), "k: 0 "),
    "negative k": (asked(user_id="1", k=-3), "k: -3 "),
    "k above the limit": (asked(user_id="1", k=101), "k: 101 is not possible; ask for 1 to 100"),
    "empty user": (asked(user_id=""), "user_id: must not be empty"),
    "user of the wrong type": (asked(user_id="abc"), "user_id: 'abc' is not an id here"),
    "user with another spelling": (asked(user_id="042"), "user_id: '042' is not an id here"),
    "user of spaces": (asked(user_id=" \t"), "user_id: must not be empty"),
    "user beyond int64": (asked(user_id=str(2**63)), "user_id: "),
    "endless user": (asked(user_id="9" * 5000), "user_id: "),
    "unknown item": (
        asked(session=Session(history=[item("1"), item("2"), item("3"), item("61")], strict=True)),
        "session.history[3].item_id: '61' is not an item of the catalog of bundle 'tiny-run-1'",
    ),
    "item of the wrong type": (session(item("x")), "session.history[0].item_id: "),
    "no item": (session(item("1"), item("")), "session.history[1].item_id: must not be empty"),
    "some times missing": (
        session(item("1", DAY), item("2"), item("3", 2 * DAY)),
        "session.history[1].timestamp_us: 0 is given beside",
    ),
    "time before 1970": (session(item("1", -DAY), item("2", DAY)), "session.history[0].timestamp_us: "),
    "milliseconds": (
        session(item("1", 1_795_996_115_279)),
        "session.history[0].timestamp_us: 1795996115279 looks like milliseconds since 1970 (2026-11-29T23:48:35Z)",
    ),
    "seconds": (
        session(item("1", DAY // 1000), item("2", 1_795_996_115)),
        "session.history[1].timestamp_us: 1795996115 looks like seconds since 1970 (2026-11-29T23:48:35Z)",
    ),
    "newest first": (
        session(item("1", DAY), item("2", 3 * DAY), item("3", 2 * DAY)),
        f"session.history[2].timestamp_us: {2 * DAY} is earlier",
    ),
    "unknown profile feature": (
        session(user_profile__gendr=FeatureValue(string_value="M")),
        'session.profile["user_profile__gendr"]: there is no such feature; did you mean user_profile__gender?',
    ),
    "item feature as profile": (
        session(item_attributes__release_year=FeatureValue(int_value=1990)),
        'session.profile["item_attributes__release_year"]: there is no such feature',
    ),
    "wrong case in the profile": (
        session(user_profile__age_group=FeatureValue(string_value="young")),
        "session.profile[\"user_profile__age_group\"]: 'young' is no Int64: expected a whole number",
    ),
    "list for a single value": (
        session(user_profile__gender=FeatureValue(string_list=StringList(values=["M"]))),
        'session.profile["user_profile__gender"]: string_list is given',
    ),
    "unknown context feature": (
        session(item("1"), item("2", 0, interaction_context__mood=FeatureValue(string_value="x"))),
        'session.history[1].context["interaction_context__mood"]: there is no such feature',
    ),
    "whole array as context": (
        session(item("1", 0, interaction_context__hours=FeatureValue(int_list=Int64List(values=[1])))),
        'session.history[0].context["interaction_context__hours"]: int_list is given, but the feature is Int64',
    ),
    "item ids as context": (
        session(item("1", 0, interaction_context__item_ids=FeatureValue(int_value=1))),
        'session.history[0].context["interaction_context__item_ids"]: there is no such feature',
    ),
    "time as context": (
        session(item("1", 0, interaction_context__timestamps=FeatureValue(int_value=1))),
        'session.history[0].context["interaction_context__timestamps"]: there is no such feature',
    ),
    "not a number": (
        session(item("1", 0, interaction_context__ratings=FeatureValue(double_value=float("nan")))),
        'session.history[0].context["interaction_context__ratings"]: nan is not a usable number',
    ),
    "infinite number": (
        session(item("1", 0, interaction_context__ratings=FeatureValue(double_value=float("-inf")))),
        'session.history[0].context["interaction_context__ratings"]: -inf ',
    ),
    "extreme number": (
        session(item("1", 0, interaction_context__ratings=FeatureValue(double_value=1e30))),
        'session.history[0].context["interaction_context__ratings"]: 1e+30 is not a usable number: it lies more than 10,000 ',
    ),
    "endless feature name": (
        session(**{"x" * 9000: FeatureValue(double_list=DoubleList(values=[1.0]))}),
        'session.profile["xxx',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_field_is_named(stub: Any, case: str) -> None:
    request, message = REFUSED[case]
    with pytest.raises(grpc.RpcError) as raised:
        stub.Retrieve(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = raised.value.details() or ""
    assert details.startswith(message)
    assert len(details) < 500
    assert field_of(raised.value) == details.partition(": ")[0]


FINE: dict[str, Callable[[], RetrieveRequest]] = {
    "largest k": lambda: asked(user_id="1", k=100),
    "equal times": lambda: session(item("1", DAY), item("2", DAY)),
    "value not set": lambda: session(user_profile__gender=FeatureValue()),
    "value never seen in training": lambda: session(user_profile__occupation=FeatureValue(string_value="astronaut")),
    "the same item twice": lambda: session(item("1"), item("1")),
    "negative user id": lambda: asked(user_id="-5"),
    "blanks around ids": lambda: session(item(" 1\t"), item("2\u00a0")),
}


@pytest.mark.parametrize("case", FINE)
def test_an_unusual_request_is_answered(stub: Any, case: str) -> None:
    assert len(stub.Retrieve(FINE[case]()).items) >= 5


def test_values_that_are_not_set_are_missing(stub: Any) -> None:
    plain = stub.Retrieve(session(item("1"), item("2")))
    unset = stub.Retrieve(
        session(
            item("1"), item("2", 0, interaction_context__ratings=FeatureValue()), user_profile__gender=FeatureValue()
        )
    )
    assert plain.items == unset.items
