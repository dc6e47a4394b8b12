"""`rf data init-repo`: what it writes is what Feast and the platform read."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rf_platform.data.report import ImportReport
from rf_platform.data.scaffold import init_repo
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.settings import Settings
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]

_MAPPING = """
name: my-shop.v2
interactions:
  file: e.csv
  user: who
  item: sku
  timestamp: {column: at, format: seconds}
  event_type: what
  context:
    color: color
    price: {column: paid, type: float}
    seen: {column: seen, type: time, format: seconds}
    baskets: {column: basket, separator: "|"}
items:
  file: p.parquet
  item: sku
  attributes: [name, color, size, weight, tags, codes, vector, since, text, nothing, flag]
users:
  file: u.csv
  user: who
  attributes: [color, age]
"""


@pytest.fixture
def shop(bring: Bring) -> ImportReport:
    events = ["who,sku,at,what,color,paid,seen,basket"]
    events += [f"{n % 7 + 1},s{n % 120},{n + 100},buy,red,1.5,{n if n else ''},a|b" for n in range(240)]
    count = 120
    products = pa.table(
        {
            "sku": [f"s{n}" for n in range(count)],
            "name": [f"Product {n}" for n in range(count)],
            "color": ["red", "blue"] * (count // 2),
            "size": list(range(count)),
            "weight": [n / 2 for n in range(count)],
            "tags": [["a", "b"]] * count,
            "codes": [[1, 2]] * count,
            "vector": pa.array([[0.5, 1.0]] * count, pa.list_(pa.float32())),
            "since": pa.array([1] * count, pa.timestamp("us", tz="UTC")),
            "text": [f"a long text {n}" for n in range(count)],
            "nothing": pa.array([None] * count, pa.string()),
            "flag": [True, False] * (count // 2),
        }
    )
    users = "who,color,age\n" + "".join(f"{n},red,{20 + n}\n" for n in range(1, 8))
    return bring(_MAPPING, {"e.csv": "\n".join(events), "p.parquet": products, "u.csv": users})


def test_the_repository_round_trips_through_feast(shop: ImportReport, workspace: Workspace, tmp_path: Path) -> None:
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize

    repository = tmp_path / "my repo"
    assert init_repo(workspace, repository) == [repository / "feature_store.yaml", repository / "definitions.py"]
    settings = Settings(home=workspace.root, feature_repo=repository)
    applied = apply_definitions(settings)
    spec = applied.definitions.spec
    assert applied.feature_views == ["interaction_context", "item_attributes", "user_profile"]
    assert (spec.user.id_type, spec.item.id_type) == ("int64", "string")
    assert {(f.side, f.field): (f.dtype, f.kind, f.role, f.domain) for f in spec.fields if f.role != "history"} == {
        ("item", "name"): ("String", "categorical", "display", None),
        ("item", "recommendable"): ("Int64", "categorical", "recommendable", None),
        ("item", "color"): ("String", "categorical", "feature", "color"),
        ("item", "size"): ("Int64", "categorical", "feature", "item_attributes__size"),
        ("item", "weight"): ("Float64", "numeric", "feature", None),
        ("item", "tags"): ("Array(String)", "multi", "feature", "item_attributes__tags"),
        ("item", "codes"): ("Array(Int64)", "multi", "feature", "item_attributes__codes"),
        ("item", "vector"): ("Array(Float32)", "vector", "feature", None),
        ("item", "since"): ("UnixTimestamp", "timestamp", "feature", None),
        ("item", "text"): ("String", "categorical", "ignore", None),
        ("item", "flag"): ("Int64", "categorical", "feature", "item_attributes__flag"),
        ("user", "color"): ("String", "categorical", "feature", "color"),
        ("user", "age"): ("Int64", "categorical", "feature", "user_profile__age"),
    }
    assert {f.field: (f.of, f.kind, f.domain) for f in spec.history} == {
        "item_ids": ("item_id", "categorical", "item_id"),
        "timestamps": ("event_timestamp", "timestamp", None),
        "event_types": ("event_type", "categorical", "interaction_context__event_types"),
        "hours": ("hour", "categorical", "interaction_context__hours"),
        "weekdays": ("weekday", "categorical", "interaction_context__weekdays"),
        "recent_color": ("color", "categorical", "color"),
        "recent_price": ("price", "numeric", None),
    }
    assert {m.view: m.rows for m in materialize(settings)} == {
        "interaction_context": 7,
        "rf_seen": 7,
        "item_attributes": 120,
        "user_profile": 7,
    }


def test_comments_name_what_only_a_person_can_decide(shop: ImportReport, workspace: Workspace, tmp_path: Path) -> None:
    init_repo(workspace, tmp_path / "repo")
    text = (tmp_path / "repo" / "definitions.py").read_text()
    for comment in (
        '# 120 different numbers: a category; if it is an amount, tag it "kind": "numeric".\n        Field(name="size"',
        '# 120 different texts in 120 rows: no category, so left out of the model.\n        Field(name="text"',
        "# nothing has no values\n",
        "# seen is a time with gaps: a history cannot keep those\n",
        "# baskets is a list: a history cannot keep lists\n",
    ):
        assert comment in text
    assert max(map(len, text.splitlines())) <= 120
    assert "project: my_shop_v2\n" in (tmp_path / "repo" / "feature_store.yaml").read_text()


def _run(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / "definitions.py"))


def test_a_catalog_of_positions_alone_has_only_a_history(
    bring: Bring, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = "name: log\ninteractions: {file: e.csv, user: u, item: i, timestamp: {column: t, format: position}}\n"
    bring(mapping, {"e.csv": "u,i,t\n1,1,0\n1,2,1\n"})
    init_repo(workspace, tmp_path / "repo")
    monkeypatch.delenv("RF_TABLES", raising=False)
    monkeypatch.chdir(tmp_path / "repo")
    names = _run(tmp_path / "repo")
    assert [p.name for p in names["retrieval"].feature_view_projections] == ["interaction_context"]
    assert sorted(f.name for f in names["interaction_context"].schema) == ["event_types", "item_ids"]
    assert Path(names["TABLES"]).resolve() == workspace.tables  # without `rf`, relative to the repository


def test_the_declared_display_column_wins(bring: Bring, workspace: Workspace, tmp_path: Path) -> None:
    mapping = "name: log\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\nitems: {file: i.csv, item: i, attributes: "
    files = {"e.csv": "u,i,t\n1,1,5\n", "i.csv": "i,name,title\n1,x,y\n"}
    bring(mapping + "{name: {column: name, display: true}, title: title}}\n", files)
    init_repo(workspace, tmp_path / "repo")
    tags = {f.name: f.tags for f in _run(tmp_path / "repo")["item_attributes"].schema}
    assert tags == {"name": {"role": "display"}, "title": {}, "recommendable": {"role": "recommendable"}}


def test_nothing_is_overwritten(bring: Bring, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing is imported"):
        init_repo(workspace, tmp_path / "repo")
    bring("name: a\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n", {"e.csv": "u,i,t\n1,2,3\n"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "definitions.py").write_text("precious")
    with pytest.raises(UsageError, match="mine exists and is not empty"):
        init_repo(workspace, tmp_path / "mine")
    assert (tmp_path / "mine" / "definitions.py").read_text() == "precious"
