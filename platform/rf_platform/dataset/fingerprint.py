"""A hash of what a dataset holds: equal content, equal fingerprint, whatever wrote the files and when."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.dataset.array_file import data_bytes
from rf_platform.features.spec import FeatureSpec


def fingerprint(content: Path, spec: FeatureSpec) -> str:
    """Return the SHA-256, in hex, over the spec, the arrays, the tables and the vocabularies under ``content``."""
    digest = hashlib.sha256(spec.hash.encode())
    for path in sorted(content.glob("sequences/*.npy")):
        digest.update(path.name.encode())
        for part in data_bytes(path):
            digest.update(part)
    tables = [content / "items.parquet", content / "users.parquet", content / "contexts.parquet"]
    for path in [*tables, *sorted(content.glob("encoder/*.parquet"))]:
        digest.update(path.name.encode())
        # Arrow's stream form depends on the values alone; a Parquet file's bytes depend on its writer.
        table = pq.read_table(path).combine_chunks().replace_schema_metadata(None)
        with pa.PythonFile(_Hashed(digest), "w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100_000)
    digest.update((content / "encoder" / "numeric.json").read_bytes())
    return digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file that goes into a hash and nowhere else."""

    def __init__(self, digest: "hashlib._Hash") -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)
