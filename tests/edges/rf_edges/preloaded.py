"""The libraries that commands import, imported once for all processes of the tests.

None of the platform's own modules is here: commands are interrupted while they import them.
"""

import importlib

_NAMES = """
    prometheus_client pytest torch torch.distributed torchrec faiss onnx onnxruntime duckdb pandas pyarrow.csv pyarrow.parquet
    sqlalchemy.orm sqlalchemy.dialects.sqlite alembic.command alembic.config dotenv pydantic_settings typer rich.table
    feast feast.repo_operations feast.infra.registry.sql feast.infra.online_stores.sqlite feast.infra.offline_stores.duckdb
    grpc grpc.aio uvloop jinja2 structlog matplotlib.figure matplotlib.patheffects scipy.sparse scipy.stats rich.progress
    feast.infra.passthrough_provider tensorboard.summary PIL.JpegImagePlugin PIL.GifImagePlugin PIL.BmpImagePlugin
    tensorboard.compat.proto.event_pb2 tensorboard.backend.event_processing.event_accumulator
    opentelemetry.sdk.trace opentelemetry.exporter.otlp.proto.http.trace_exporter
"""  # the client of Prometheus comes before Feast
for _name in _NAMES.split():
    importlib.import_module(_name)
