"""A hash of what a dataset holds: equal content, equal fingerprint, whatever wrote the files and when."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.features.spec import FeatureSpec


def fingerprint(content: Path, spec: FeatureSpec) -> str:
    """Return the SHA-256, in hex, over the spec, the arrays, the tables and the vocabularies under ``content``."""
    digest = hashlib.sha256(spec.hash.encode())
    for path in sorted(content.glob("sequences/*.npy")):
        digest.update(path.name.encode())
        array = np.load(path, mmap_mode="r")
        for start in range(0, len(array), 1_000_000):
            digest.update(np.ascontiguousarray(array[start : start + 1_000_000]).data)
    tables = [content / "items.parquet", content / "users.parquet", content / "contexts.parquet"]
    for path in [*tables, *sorted(content.glob("encoder/*.parquet"))]:
        digest.update(path.name.encode())
        # Arrow's stream form depends on the values alone; a Parquet file's bytes depend on its writer.
        sink = pa.BufferOutputStream()
        table = pq.read_table(path).combine_chunks().replace_schema_metadata(None)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100_000)
        digest.update(sink.getvalue())
    digest.update((content / "encoder" / "numeric.json").read_bytes())
    return digest.hexdigest()
