"""What commands import, prepared once for all processes of the tests: libraries are imported, the platform is compiled.

None of the platform's own modules is imported here: commands are interrupted while they import them.
"""

import compileall
import gc
import importlib
import sys
import tempfile
from pathlib import Path

_NAMES = """
    prometheus_client pytest torch torch.distributed torchrec faiss onnx onnxruntime duckdb pandas pyarrow.csv pyarrow.parquet
    sqlalchemy.orm sqlalchemy.dialects.sqlite alembic.command alembic.config dotenv pydantic_settings typer rich.table
    feast feast.repo_operations feast.infra.registry.sql feast.infra.online_stores.sqlite feast.infra.offline_stores.duckdb
    grpc grpc.aio uvloop jinja2 structlog matplotlib.figure matplotlib.patheffects scipy.sparse scipy.stats rich.progress
    feast.infra.passthrough_provider tensorboard.summary PIL.JpegImagePlugin PIL.GifImagePlugin PIL.BmpImagePlugin
    tensorboard.compat.proto.event_pb2 tensorboard.backend.event_processing.event_accumulator torch.utils.serialization
    opentelemetry.sdk.trace opentelemetry.exporter.otlp.proto.http.trace_exporter feast.infra.compute_engines.local.compute
    grpc._channel typer.rich_utils typer._adapters typer._click.decorators rich._emoji_codes rich.markdown
    matplotlib.backends.backend_svg
"""  # the client of Prometheus comes before Feast
for _name in _NAMES.split():
    importlib.import_module(_name)

_bytecode = tempfile.TemporaryDirectory(prefix="rf-edges-")
sys.pycache_prefix, sys.dont_write_bytecode = _bytecode.name, True
for _layer in ("protos", "platform", "training", "serving"):
    compileall.compile_dir(Path(__file__).parents[3] / _layer, quiet=2)
gc.collect()
gc.freeze()  # a collection in a fork would touch, and so copy, all that is shared
