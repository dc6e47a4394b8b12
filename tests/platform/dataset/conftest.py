"""Small feature repositories in which every value is chosen by hand."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a Parquet file with microsecond UTC times."""

    def write(name: str, **columns: Any) -> Path:
        arrays = {
            k: pa.array(v, pa.timestamp("us", tz="UTC")) if isinstance(next(iter(v), None), datetime) else pa.array(v)
            for k, v in columns.items()
        }
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(arrays), path)
        return path

    return write
