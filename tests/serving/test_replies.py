"""Replies written field by field are messages of the contract."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from rf_protos.v1.retrieval_pb2 import RetrieveResponse, ScoredItem, StageTiming
from rf_serving.wire.replies import history_bytes, items_bytes, timings_bytes

scores = st.floats(width=32, allow_nan=False)
ids = st.one_of(st.text(max_size=20), st.integers(0, 400).map(lambda length: "ü" * length))


@given(st.lists(st.tuples(ids, scores), max_size=5))
def test_items(items: list[tuple[str, float]]) -> None:
    written = items_bytes([each.encode() for each, _ in items], b"".join(struct.pack("<f", s) for _, s in items))
    expected = RetrieveResponse(items=[ScoredItem(item_id=each, score=score) for each, score in items])
    assert RetrieveResponse.FromString(written) == expected


@given(st.lists(ids, max_size=5), st.dictionaries(st.sampled_from(["fetch", "encode", "a" * 200]), scores))
def test_history_and_timings(history: list[str], seconds: dict[str, float]) -> None:
    written = history_bytes([each.encode() for each in history]) + timings_bytes(seconds)
    timings = [StageTiming(stage=stage, milliseconds=1000 * each) for stage, each in seconds.items()]
    assert RetrieveResponse.FromString(written) == RetrieveResponse(history=history, timings=timings)
