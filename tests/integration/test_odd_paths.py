"""The whole way from files to a dataset below a directory whose name means something to URLs, patterns, SQL and shells."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.adapters import Request
from rf_platform.data.importer import import_tables
from rf_platform.data.scaffold import init_repo
from rf_platform.dataset.build import build_dataset
from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.registry.registry import Registry
from rf_platform.settings import Settings

_NAME = 'feature%2Fx [1]* it\'s "ü" #a&b=c;d {e} $HOME ~'
_MAPPING = """name: shop
interactions: {file: e.parquet, user: u, item: i, timestamp: t}
items: {file: i.parquet, item: i, attributes: [price]}
"""


def test_any_legal_path_works(tmp_path: Path) -> None:
    top = tmp_path / _NAME
    (top / "in").mkdir(parents=True)
    times = [86_400 * day for day in (1, 2, 3, 1, 2, 3)]
    pq.write_table(pa.table({"u": [1, 1, 1, 2, 2, 2], "i": [7, 8, 9, 9, 8, 7], "t": times}), top / "in" / "e.parquet")
    pq.write_table(pa.table({"i": [7, 8, 9], "price": [1.5, 2.5, None]}), top / "in" / "i.parquet")
    (top / "in" / "m.yaml").write_text(_MAPPING)
    settings = Settings(home=top / "home", feature_repo=top / "repo")
    request = Request(source="custom", path=None, mapping=top / "in" / "m.yaml")
    import_tables(request, workspace=settings.workspace)
    init_repo(settings.workspace, top / "repo")
    definitions = apply_definitions(settings).definitions
    assert [m.rows for m in materialize(settings)] == [2, 3, 2]
    tables, datasets = settings.workspace.tables, settings.workspace.datasets
    dataset, _ = build_dataset(definitions, tables / "interactions.parquet", datasets, "shop")
    assert dataset.items["item_attributes__price"].to_pylist() == [1.5, 2.5, None]
    assert Registry.of(settings).datasets() == []
    assert (settings.workspace.root / "registry.db").is_file()


def test_a_question_mark_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the path .*what\? must not contain '\?'"):
        Settings(home=tmp_path / "what?")
