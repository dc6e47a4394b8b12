"""An event may name the answer that had shown its item."""

import json
from pathlib import Path
from typing import Any

import pytest

from rf_platform.data.event_log import Event, EventWindow
from rf_platform.data.event_log.event import ANSWER
from rf_platform.errors import UsageError
from rf_platform.features.dtype import Dtype
from rf_platform.features.spec import EntitySpec, FeatureSpec
from rf_protos.v1 import feedback_pb2
from rf_protos.v1.features_pb2 import FeatureValue
from rf_serving.events.reader import Columns, EventReader
from rf_serving.wire.json_lines import read_events

SPEC = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(),
    domains=(),
    history_length=5,
)
NOW = 1_790_000_000_000_000


def read(**given: Any) -> Event:
    reader = EventReader(SPEC, Columns(dtypes={"event_type": Dtype("String")}), EventWindow(clock=lambda: NOW / 1e6))
    return reader.read(feedback_pb2.Event(event_id="e", user_id="u", item_id="i", timestamp_us=NOW, **given))


def test_the_answer_is_kept_with_the_event() -> None:
    assert read(request_id="abc").values == {"event_type": "interaction", ANSWER: "abc"}
    assert ANSWER not in read().values


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match="request_id: 129 characters"):
        read(request_id="x" * 129)
    with pytest.raises(UsageError, match="request_id"):
        read(values={ANSWER: FeatureValue(string_value="abc")})


def test_lines_of_a_file_may_name_it(tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    lines.write_text(json.dumps({"user_id": 1, "item_id": 2, "request_id": "abc"}) + "\n")
    assert read_events(lines)[0].request_id == "abc"
