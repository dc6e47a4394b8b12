"""Protobuf's JSON mapping: the same as `google.protobuf.json_format` has, and errors that name the field."""

import json
import random
import re
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rf_fuzz.json_requests import json_requests
from rf_fuzz.messages import random_message
from rf_fuzz.requests import SERVICES
from rf_fuzz.words import Words
from rf_platform.errors import UsageError
from rf_protos.v1.catalog_pb2 import UpsertItemsRequest
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.gateway.json_reader import read_message
from rf_serving.gateway.methods import json_methods

METHODS = json_methods(SERVICES)


@pytest.mark.parametrize("by_contract", [False, True], ids=["camelCase", "snake_case"])
def test_what_is_written_is_read_again(by_contract: bool) -> None:
    kinds = {
        GetMessageClass(kind) for service in SERVICES for m in service.methods for kind in (m.input_type, m.output_type)
    }
    for kind in sorted(kinds, key=lambda each: each.DESCRIPTOR.name):
        for seed in range(12):
            message = random_message(kind, random.Random(seed), Words())
            text = json_format.MessageToJson(message, preserving_proto_field_name=by_contract)
            assert kind.FromString(read_message(kind, text.encode())) == json_format.Parse(text, kind())


def test_nothing_is_read_otherwise_than_protobuf_reads_it() -> None:
    taken = refused = 0
    for request in json_requests(5, 2000, Words()):
        kind = METHODS.get(request.path)
        if kind is None or request.kind == "deep":
            continue
        stricter, wanted = False, by_protobuf(kind.request, request.body)
        try:
            found: Message | None = kind.request.FromString(kind.read(request.body))
        except UsageError as error:
            # To protobuf's reader, an empty text or list is an empty message, and a text that is too large a number is infinite.
            stricter = str(error).endswith(("give a JSON object", "is too large"))
            stricter |= bool(
                re.search(r": (true|false|-?\d+\.\S+) is none of ", str(error))
            )  # protobuf rounds to a number
            found = None
        if found is None:
            assert wanted is None or stricter, request
            refused += 1
        else:
            assert wanted is not None, request
            assert found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True), request
            taken += 1
    assert taken > 200
    assert refused > 300


def by_protobuf(kind: type[Message], body: bytes) -> Message | None:
    try:
        return json_format.Parse(body.decode(), kind()) if body[:1] == b"{" else None
    except (json_format.ParseError, ValueError):
        return None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"user": "42"}', "user: RetrieveRequest has no such field; it has userId, session, k"),
        ('{"session": {"history": [{}, {"itemId": 7}]}}', "session.history[1].item_id: 7 is no text"),
        (
            '{"session": {"profile": {"a b": {"intValue": "x"}}}}',
            'session.profile["a b"].int_value: "x" is no whole number',
        ),
        ('{"userId": "42", "session": {}}', "session: another field of subject is given, too"),
        ('{"k": 3000000000}', "k: 3000000000 is not within -2147483648 to 2147483647"),
        ('{"rerank": "BEST"}', 'rerank: "BEST" is none of RERANK_UNSPECIFIED, RERANK_NONE'),
        ('{"k": 1, "k": 2}', 'the body is no JSON object: "k" is there twice'),
        ('{"excludeSeen": 1, "exclude_seen": true}', "exclude_seen: 1 is neither true nor false"),
        ('{"userId": "\\ud800"}', "user_id: has half of a surrogate pair"),
        ("[]", "a list is no RetrieveRequest; give a JSON object"),
        ("", "the body is no JSON object in UTF-8: Expecting value"),
        ("[" * 100_000, "the body is nested deeper"),
        ('{"filter":{"where":[' + '{"any":[' * 450 + "]}" * 450 + "]}}", "nested deeper than a message may be"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(body: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_message(RetrieveRequest, body.encode())
    assert said in str(caught.value)


def test_numbers_may_be_texts_and_null_is_missing() -> None:
    text: Any = {"items": [{"itemId": "1", "features": {"a": {"intValue": "7"}, "b": {"doubleValue": "Infinity"}}}]}
    text["neighbours"] = None
    made = UpsertItemsRequest.FromString(read_message(UpsertItemsRequest, json.dumps(text).encode()))
    assert (made.items[0].features["a"].int_value, made.items[0].features["b"].double_value) == (7, float("inf"))
