"""Vectors of all items and users as Parquet files, for other programs: the dot product of two is the score."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.cli.console import track
from rf_platform.errors import CorruptError, DataError
from rf_platform.features.vocabulary import arrow_type
from rf_platform.files import new_file
from rf_serving.batch.users import Users
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.routing import Route


def write_item_vectors(engine: Engine, out: Path) -> int:
    """Write a row for every item that may be returned: its id, and ``vector``, a list of float32 of one length.

    Args:
        engine: of the bundle, with the live catalog.
        out: the file; one that is there is replaced as a whole.

    Returns:
        The number of items.
    """
    catalog, spec = engine.catalog.snapshot, engine.bundle.spec
    rows = np.flatnonzero(catalog.live(np.arange(catalog.rows)))
    ids = [int(text) if spec.item.id_type == "int64" else text for text in catalog.texts(rows.tolist())]
    schema = _schema(spec.item.join_key, arrow_type(spec.item.id_type), engine.bundle.vectors_ND.shape[1])
    with new_file(out) as part:
        pq.write_table(pa.table([pa.array(ids, schema.field(0).type), _lists(catalog.vectors(rows))], schema), part)
    return len(ids)


def write_user_vectors(route: Route, users: Users, out: Path) -> tuple[int, int]:
    """Write a row for every user: the id, and ``vector`` as of the features in the online store; null where these are of no use.

    Args:
        route: bundle, and where users' features are read.
        users: their ids.
        out: the file; one that is there is replaced as a whole.

    Returns:
        The number of users, and of those without a vector.

    Raises:
        UnavailableError: the online store cannot be read.
    """
    engine = route.engine
    spec, width = engine.bundle.spec, engine.bundle.vectors_ND.shape[1]
    schema = _schema(spec.user.join_key, arrow_type(spec.user.id_type), width)
    done = failed = 0
    with (
        new_file(out) as part,
        pq.ParquetWriter(part, schema, compression="zstd") as file,
        track(f"users' vectors of {engine.bundle.name}", users.count) as progress,
    ):
        for ids in users.chunks:
            vectors_BD = np.full((len(ids), width), np.nan, np.float32)
            known = []
            for place, (user, row) in enumerate(zip(ids, route.fetcher.read(ids), strict=True)):
                try:
                    known.append((place, route.fetcher.decode(user, row).known(engine.catalog.snapshot)))
                except CorruptError:
                    continue
            encoded = engine.encode([features for _, features in known])
            for (place, _), vector in zip(known, encoded, strict=True):
                if not isinstance(vector, DataError):
                    vectors_BD[place] = vector
            missing_B: npt.NDArray[np.bool_] = np.asarray(np.isnan(vectors_BD).any(axis=1))
            file.write_table(pa.table([pa.array(ids, schema.field(0).type), _lists(vectors_BD, missing_B)], schema))
            done, failed = done + len(ids), failed + int(missing_B.sum())
            progress.advance(len(ids))
    return done, failed


def _schema(key: str, ids: pa.DataType, width: int) -> pa.Schema:
    return pa.schema([(key, ids), ("vector", pa.list_(pa.float32(), width))])


def _lists(vectors_ND: npt.NDArray[np.float32], missing_N: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    values = pa.array(np.ascontiguousarray(vectors_ND, np.float32).reshape(-1))
    mask = None if missing_N is None else pa.array(missing_N)
    return pa.FixedSizeListArray.from_arrays(values, vectors_ND.shape[1], mask=mask)
