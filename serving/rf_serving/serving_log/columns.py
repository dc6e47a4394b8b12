"""Records of the serving log as Arrow columns: a batch of answers at a time, column by column."""

from array import array
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.dtype import Dtype
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.policies.sources import MODEL
from rf_platform.serving_log import ITEM, moment_column, record_schema, value_column
from rf_protos.v1.retrieval_pb2 import DegradedReason, Session
from rf_serving.ranking.policy import name_of
from rf_serving.retrieval.query import Answer, subject_key
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.serving_log.answered import Answered
from rf_serving.user_features.features import UserFeatures

_NOTHING = UserFeatures()
_CODES = {"Int64": "q", "Int32": "q", "Float64": "d", "Float32": "f"}
"""By element of a dtype: type of an array of such numbers."""


def records(answered: Sequence[Answered], spec: FeatureSpec) -> pa.Table:
    """Return the records of answers by one FeatureSpec."""
    schema = record_schema(spec)
    features = [each.answer.features or _NOTHING for each in answered]
    columns: dict[str, pa.Array] = {
        "request_id": pa.array([each.request_id for each in answered]),
        "time": _times([read.read_us or each.answered_us for each, read in zip(answered, features, strict=True)]),
        "items": _items([each.answer for each in answered]),
        **_subjects(answered),
        **_facts(answered),
    }
    for f in spec.inputs("user"):
        columns[value_column(f.name)] = _values(f.type, [each.profile.get(f.name) for each in features])
    for f in spec.history:
        columns[value_column(f.name)] = _history(f, spec, features)
    for view in {f.view for f in (*spec.inputs("user"), *spec.history)}:
        columns[moment_column(view)] = _times([(each.moments or {}).get(view) for each in features])
    return pa.table([_as(columns[field.name], field.type) for field in schema], schema=schema)


def _as(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return a column of a type; casting one that has it takes time, too."""
    return column if column.type == dtype else column.cast(dtype)


def _subjects(answered: Sequence[Answered]) -> dict[str, pa.Array]:
    subjects = [each.query.subject for each in answered]
    return {
        "user_id": pa.array([None if isinstance(s, Session) else str(s) for s in subjects], pa.string()),
        "session_id": pa.array([_session(s) if isinstance(s, Session) else None for s in subjects], pa.string()),
    }


def _session(session: Session) -> str:
    if session.session_id:
        return str(session.session_id)
    return blake2b(subject_key(session), digest_size=16).hexdigest()


def _facts(answered: Sequence[Answered]) -> dict[str, pa.Array]:
    """Return the columns that answers say by themselves."""
    rows = [_fact(each, each.answer) for each in answered]
    return {name: pa.array(column) for name, column in zip(_FACTS, zip(*rows, strict=True), strict=True)}


_FACTS = (
    "bundle",
    "split",
    "challenger",
    "percent",
    "path",
    "degraded",
    "cold",
    "rerank",
    "k",
    "milliseconds",
    "placement",
    "policy_version",
    "spec_hash",
    "catalog_sequence",
)


def _fact(each: Answered, answer: Answer | QuickAnswer) -> tuple[Any, ...]:
    """Return what one answer says, in the order of :data:`_FACTS`."""
    if isinstance(answer, QuickAnswer):
        batch = answer.batch
        own = "", 0, batch.spec_hash, batch.catalog.sequence
    else:
        own = answer.placement, answer.policy_version, answer.spec_hash, answer.sequence
    return (
        answer.bundle,
        each.split,
        each.challenger,
        each.percent,
        each.path,
        DegradedReason.Name(answer.degraded) if answer.degraded else "",
        answer.cold,
        name_of(answer.rerank),
        each.query.k,
        sum(answer.seconds.values()) * 1000,
        *own,
    )


def _items(answers: Sequence[Answer | QuickAnswer]) -> pa.Array:
    """Return the items of answers; answers of one kind that follow each other are made together."""
    lengths: list[int] = []
    parts: list[list[pa.Array]] = []
    for quick, some in groupby(answers, lambda answer: isinstance(answer, QuickAnswer)):
        if quick:
            group: list[Any] = list(some)
            lengths += [len(answer.rows) for answer in group]
            count = sum(lengths[-len(group) :])
            scores = np.frombuffer(b"".join([answer.scores for answer in group]), "<f4")
            plain = [pa.repeat(MODEL, count), pa.array(np.zeros(count)), pa.repeat("", count)]
            parts.append([_ids(group), pa.array(scores), *plain])
            continue
        for answer in some:
            assert isinstance(answer, Answer)
            lengths.append(len(answer.items))
            ruled, count = answer.ruled, len(answer.items)
            parts.append(
                [
                    pa.array(answer.items, pa.string()),
                    pa.array(answer.scores, pa.float32()),
                    pa.repeat(MODEL, count) if ruled is None else pa.array(ruled.sources, pa.string()),
                    pa.array(np.zeros(count) if ruled is None else ruled.propensities, pa.float64()),
                    pa.array(answer.teams, pa.string()) if answer.teams else pa.repeat("", count),
                ]
            )
    ids, scores, sources, propensities, bundles = (pa.concat_arrays(column) for column in zip(*parts, strict=True))
    ends = np.cumsum([0, *lengths])
    places = (np.arange(1, ends[-1] + 1) - np.repeat(ends[:-1], lengths)).astype(np.int32)
    columns = [ids, scores, pa.array(places), sources, propensities, bundles]
    item = pa.StructArray.from_arrays(columns, fields=list(ITEM))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), item)


def _ids(answers: Sequence[QuickAnswer]) -> pa.Array:
    """Return the item ids of quick answers, one answer after the other."""
    arrays = []
    for catalog, some in groupby(answers, lambda answer: answer.batch.catalog):
        rows = list(chain.from_iterable(answer.rows for answer in some))
        whole = catalog.delta is None and catalog.base.numbers is not None
        numbers = pa.array(catalog.base.numbers[rows]) if whole else None
        arrays.append(pa.array(catalog.texts(rows), pa.string()) if numbers is None else numbers.cast(pa.string()))
    return pa.concat_arrays(arrays)


def _values(dtype: Dtype, values: list[Any]) -> pa.Array:
    """Return the column of a profile's feature; truth values may come as 0 and 1, times are microseconds."""
    if dtype.element == "Bool":
        values = [None if value is None else bool(value) for value in values]
    return pa.array(values, dtype.arrow)


def _history(f: FieldSpec, spec: FeatureSpec, features: Sequence[UserFeatures]) -> pa.Array:
    """Return a column of the history as lists; null where there is none, or it was not given."""
    if f.kind == "timestamp":
        times = [each.timestamps for each in features]
        flat = np.concatenate([np.zeros(0, np.int64), *(t for t in times if t is not None)])
        return _lists(times, pa.array(flat).cast(f.type.single.arrow))
    columns: list[Sequence[Any] | None] = (
        [each.items if len(each.items) else None for each in features]
        if f.of == spec.item.join_key
        else [each.context.get(f.name) for each in features]
    )
    return _lists(columns, _flat(f.type.single, columns))


def _lists(columns: Sequence[Sequence[Any] | npt.NDArray[Any] | None], values: pa.Array) -> pa.Array:
    """Return the lists that values come from, null where there is none."""
    ends = np.cumsum([0, *(0 if each is None else len(each) for each in columns)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), values, mask=pa.array([each is None for each in columns]))


def _flat(dtype: Dtype, columns: Sequence[Sequence[Any] | None]) -> pa.Array:
    """Return the elements of lists, one list after the other.

    Numbers go through a plain array of theirs: Arrow takes four times as long to look at each of them.
    """
    lists = [each if isinstance(each, list) else list(each) for each in columns if each is not None]
    if (code := _CODES.get(dtype.element)) is not None:
        numbers = array(code)
        with suppress(TypeError):  # a missing value among them
            for each in lists:
                numbers.fromlist(each)
            return pa.array(np.frombuffer(numbers, code) if numbers else [], dtype.arrow)
    return pa.array(list(chain.from_iterable(lists)), dtype.arrow)


def _times(microseconds: Sequence[int | None]) -> pa.Array:
    return pa.array(microseconds, pa.timestamp("us", tz="UTC"))
