"""The serving log: what servers answered, with the features they read, as Parquet files of a workspace."""

from rf_platform.serving_log.parts import LogPart, ServingParts
from rf_platform.serving_log.schema import ITEM, RECORD, moment_column, record_schema, value_column

__all__ = ["ITEM", "RECORD", "LogPart", "ServingParts", "moment_column", "record_schema", "value_column"]
