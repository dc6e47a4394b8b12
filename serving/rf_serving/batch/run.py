"""Answer many users by one bundle: read, encode and search together what a server would do for each, and write a file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.cli.console import track
from rf_platform.errors import CorruptError, DataError, RfError
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.vocabulary import arrow_type
from rf_platform.files import new_file
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import RERANK_UNSPECIFIED, Rerank
from rf_serving.batch.users import Users
from rf_serving.policies import CompiledPlacement
from rf_serving.ranking.policy import name_of
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.routing import Route
from rf_serving.stage_timer import StageTimer, unobserved
from rf_serving.user_features.features import UserFeatures

AT_ONCE = 64
"""Users that are read, encoded and searched together."""


@dataclass(frozen=True, kw_only=True)
class BatchQuery:
    """The request of a batch, the same for every user."""

    k: int
    exclude_seen: bool
    filter: Filter | None = None
    rerank: "Rerank" = RERANK_UNSPECIFIED
    """Order of the items; unspecified: the deployment's default."""
    placement: str = ""
    """Placement of the policy; empty: its default one, if it has any."""
    goals: Mapping[str, float] = field(default_factory=dict)
    """Weights by goal; empty for those of the placement or the model."""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Counts of a batch's answers."""

    users: int
    cold: int
    """Users without a history."""
    failed: int
    """Users without an answer; the column ``error`` says why."""


def answer_users(route: Route, users: Users, query: BatchQuery, out: Path) -> BatchResult:
    """Write the answers of users to a Parquet file.

    Raises:
        UnavailableError: the online store cannot be read.
        UsageError: the filter is wrong.
        ConfigError: a re-ranker is asked for, and the bundle has none.
    """
    engine = route.engine
    order = engine.order_of(_query(query, 0))
    rules = route.rules_of(_query(query, 0))
    if query.filter is not None:
        engine.allowed(_query(query, 0), engine.catalog.snapshot, rules)
    made_from = {
        "bundle": engine.bundle.name,
        "spec_hash": engine.bundle.manifest.spec_hash,
        "catalog_sequence": str(engine.catalog.snapshot.sequence),
        "k": str(query.k),
        "exclude_seen": str(query.exclude_seen).lower(),
        "rerank": name_of(order),
        **({} if rules is None else {"placement": rules.name, "policy_version": str(rules.version)}),
    }
    done = cold = failed = 0
    with (
        AnswerFile.create(out, engine.bundle.spec, made_from) as file,
        track(f"answers of {engine.bundle.name}", users.count) as progress,
    ):
        for ids in users.chunks:
            answers = _answers(route, ids, query)
            file.add(ids, answers)
            done += len(ids)
            cold += sum(isinstance(answer, Answer) and answer.cold for answer in answers)
            failed += sum(isinstance(answer, RfError) for answer in answers)
            progress.advance(len(ids), note=f"{failed} failed" if failed else "")
    return BatchResult(users=done, cold=cold, failed=failed)


def _answers(route: Route, ids: Sequence[int | str], query: BatchQuery) -> list[Answer | RfError]:
    """Return the answer of each user, or why there is none."""
    rules = route.rules_of(_query(query, 0))
    rows = route.fetcher.read(ids, seen=_query(query, 0).seen_read(rules))
    read = [_decoded(route, user, row) for user, row in zip(ids, rows, strict=True)]
    asks = {
        number: (_query(query, ids[number]), features)
        for number, features in enumerate(read)
        if isinstance(features, UserFeatures)
    }
    answered = dict(zip(asks, _ranked(route.engine, list(asks.values()), rules), strict=True))
    answers: list[Answer | RfError] = []
    for number, features in enumerate(read):
        answer = features if isinstance(features, RfError) else answered[number]
        if isinstance(answer, DataError):
            answer = CorruptError(f"the stored features of user_id {ids[number]!r} cannot be used: {answer}")
        answers.append(answer)
    return answers


def _ranked(
    engine: Engine, asked: Sequence[tuple[Query, UserFeatures]], rules: CompiledPlacement | None
) -> Sequence[Answer | RfError]:
    if all(
        engine.plain(query, engine.order_of(query), rules) for query, _ in asked[:1]
    ):  # they differ in the user alone
        found = engine.rank_quick(asked)
        return [each.answer() if isinstance(each, QuickAnswer) else each for each in found]
    watch = StageTimer(unobserved)
    return engine.rank_many(
        [RankRequest(query=query, watch=watch, features=features, rules=rules) for query, features in asked]
    )


def _decoded(route: Route, user: int | str, row: object) -> UserFeatures | RfError:
    try:
        return route.fetcher.decode(user, row)  # type: ignore[arg-type]
    except CorruptError as error:
        return error


def _query(query: BatchQuery, user: int | str) -> Query:
    return Query(
        subject=user,
        k=query.k,
        exclude_seen=query.exclude_seen,
        filter=query.filter,
        rerank=query.rerank,
        history=False,
        placement=query.placement,
        goals=query.goals,
    )


_ROW_GROUP = 16_384


class AnswerFile:
    """Writes one row a user: the id, items and scores best first, what the answer was made from, or why there is none."""

    def __init__(self, writer: pq.ParquetWriter, spec: FeatureSpec, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._parse = int if spec.item.id_type == "int64" else str
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    @classmethod
    @contextmanager
    def create(cls, path: Path, spec: FeatureSpec, made_from: Mapping[str, str]) -> Iterator[Self]:
        """Write beside ``path`` and rename when the block ends; after an error, nothing is left.

        Args:
            path: the file; one that is there is replaced as a whole.
            spec: types of ids.
            made_from: bundle and options, kept as metadata of the file.
        """
        schema = answer_schema(spec, ruled="placement" in made_from)
        described = schema.with_metadata({f"rf.{name}": text for name, text in made_from.items()})
        with new_file(path) as part, pq.ParquetWriter(part, described, compression="zstd") as writer:
            file = cls(writer, spec, schema)
            yield file
            file._flush()

    def add(self, users: Sequence[int | str], answers: Sequence[Answer | RfError]) -> None:
        """Write the answers of some users."""
        given = [None if isinstance(answer, RfError) else answer for answer in answers]
        columns: list[Any] = [
            users,
            [[] if answer is None else [self._parse(item) for item in answer.items] for answer in given],
            [[] if answer is None else answer.scores for answer in given],
            [None if answer is None else answer.cold for answer in given],
            [str(answer) if isinstance(answer, RfError) else None for answer in answers],
        ]
        if len(columns) < len(self._schema):
            ruled = [None if answer is None else answer.ruled for answer in given]
            columns += [
                [None if each is None else each.sources for each in ruled],
                [None if each is None else each.propensities for each in ruled],
            ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        self._rows += len(users)
        if self._rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks(), row_group_size=_ROW_GROUP)
        self._waiting, self._rows = [], 0


_RULED = [pa.field("sources", pa.list_(pa.string())), pa.field("propensities", pa.list_(pa.float64()))]
"""Further columns of answers by a placement."""


def answer_schema(spec: FeatureSpec, *, ruled: bool = False) -> pa.Schema:
    """Return the columns of the file; ``ruled``: of answers by a placement."""
    return pa.schema(
        [
            (spec.user.join_key, arrow_type(spec.user.id_type)),
            ("items", pa.list_(arrow_type(spec.item.id_type))),
            ("scores", pa.list_(pa.float32())),
            ("cold", pa.bool_()),
            ("error", pa.string()),
            *(_RULED if ruled else ()),
        ]
    )
