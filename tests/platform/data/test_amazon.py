"""The Amazon sets, from small copies in the same form."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.report import ImportReport
from rf_platform.errors import DataError, NotFoundError, UsageError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    log = {"user_id": [2, 1, 1], "item_id": [10, 20, 10], "position": [0, 1, 0]}
    pq.write_table(pa.table(log), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": [20, 10], "attributes": [[3, 1], [7]]}), tmp_path / "items.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["amazon-beauty", "amazon-toys"])
def test_import(name: str, copy: Path, bring: Bring, rows: Rows) -> None:
    report = bring(source=name, path=copy)
    assert (report.name, report.feature_repo, report.time) == (name, "amazon", "position")
    assert report.counts == {"interactions": 3, "items": 2, "active_users": 2, "quarantined": 0}
    start = datetime(2000, 1, 1, tzinfo=UTC)
    assert [tuple(r.values()) for r in rows("interactions")] == [
        (1, 10, start, "interaction", None, None, None, 3),
        (1, 20, start.replace(hour=1), "interaction", None, None, None, 2),
        (2, 10, start, "interaction", None, None, None, 1),
    ]
    assert [(r["item_id"], r["attributes"]) for r in rows("items")] == [(10, [7]), (20, [3, 1])]


def test_bad_input(copy: Path, bring: Bring) -> None:
    with pytest.raises(UsageError, match=r"amazon-toys needs the PATH of a directory with interactions.parquet"):
        bring(source="amazon-toys")
    pq.write_table(pa.table({"user_id": [1], "item_id": [10], "position": [-1]}), copy / "interactions.parquet")
    with pytest.raises(DataError, match=r"interactions.parquet, row 1, column position: out of range '-1'"):
        bring(source="amazon-toys", path=copy)
    pq.write_table(pa.table({"user_id": [1], "item_id": [10]}), copy / "interactions.parquet")
    with pytest.raises(DataError, match=r"interactions.parquet: missing column 'position'"):
        bring(source="amazon-toys", path=copy)
    pq.write_table(pa.table({"user_id": [1]}).slice(0, 0), copy / "interactions.parquet")
    with pytest.raises(DataError, match=r"interactions.parquet is empty: it has no data rows"):
        bring(source="amazon-toys", path=copy)
    (copy / "interactions.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"interactions.parquet is not a readable Parquet file"):
        bring(source="amazon-toys", path=copy)
    (copy / "items.parquet").unlink()
    with pytest.raises(NotFoundError, match=r"interactions.parquet and items.parquet must both be there"):
        bring(source="amazon-toys", path=copy)
