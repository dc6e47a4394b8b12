"""The Amazon review sets (2014, 5-core) in Parquet form: positions instead of times, anonymous item attributes, no users."""

from pathlib import Path

from rf_platform.data.locate import Location
from rf_platform.data.log_columns import STATIC, id_field, positions_table
from rf_platform.data.specs import (
    EventTime,
    Field,
    Kind,
    ParquetFormat,
    SourceSpec,
    TableSpec,
)
from rf_platform.errors import NotFoundError, UsageError

NAMES = ("amazon-beauty", "amazon-toys")
_FEATURE_REPO = "amazon"
_FILES = ("interactions.parquet", "items.parquet")


def amazon(name: str, path: Path | None, scratch: Path) -> SourceSpec:
    """Find an Amazon set in a directory or zip archive.

    Raises:
        UsageError: no path is given.
        NotFoundError: the files are not there.
    """
    if path is None:
        raise UsageError(
            f"{name} needs the PATH of a directory with {' (user_id, item_id, position) and '.join(_FILES)} "
            f"(item_id, attributes[])"
        )
    place = Location(path, scratch)
    interactions, items = (place.find(file) for file in _FILES)
    if interactions is None or items is None:
        raise NotFoundError(
            f"no {name} in {path}: {' and '.join(_FILES)} must both be there, at the top or one directory below"
        )
    return SourceSpec(
        name=name,
        feature_repo=_FEATURE_REPO,
        time=EventTime.POSITION,
        tables=(
            positions_table(interactions, "interaction"),
            TableSpec(
                table="items",
                files=(items,),
                format=ParquetFormat(),
                fields=(
                    id_field("item", "item_id", Kind.INT),
                    Field(name="attributes", column="attributes", kind=Kind.INTS),
                ),
                outputs={"item_id": "item_id", **STATIC, "attributes": "attributes"},
            ),
        ),
    )
