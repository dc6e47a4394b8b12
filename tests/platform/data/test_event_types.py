"""Types of events in the mapping: renamed, merged and weighed; what becomes of it in feature repository and dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform.data.report import ImportReport
from rf_platform.data.scaffold import init_repo
from rf_platform.dataset.build import build_dataset
from rf_platform.errors import ConfigError
from rf_platform.features.event_weights import EventWeights, parse_weights, unlike_mapping
from rf_platform.features.spec import FeatureSpec
from rf_platform.settings import Settings
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

MAPPING = (
    "name: shop\ninteractions:\n  file: e.csv\n  user: u\n  item: i\n  timestamp: t\n  rating: stars\n"
    "  event_type: {column: a, rename: {buy: purchase, order: purchase, add: cart}, weights: WEIGHTS}\n"
)
ACTIONS = ["view", "add", "buy", "view", "order", "wish"]
EVENTS = "u,i,t,a,stars\n" + "".join(
    f"{user},{item},2024-05-{day + 1:02d},{ACTIONS[(user + day) % 6]},{day % 5}\n"
    for user in range(1, 4)
    for day, item in enumerate("ABCDEF")
)


def mapping(weights: str = "{purchase: 5, cart: 2, view: 1}") -> str:
    return MAPPING.replace("WEIGHTS", weights)


def test_types_are_renamed_and_merged_and_weights_reach_the_spec(
    bring: Bring, rows: Rows, workspace: Workspace, tmp_path: Path
) -> None:
    from rf_platform.features.apply import apply_definitions

    report = bring(mapping(), {"e.csv": EVENTS})
    names = {"buy": "purchase", "order": "purchase", "add": "cart"}
    expected = [names.get(line.split(",")[3], line.split(",")[3]) for line in EVENTS.splitlines()[1:]]
    assert [row["event_type"] for row in rows("interactions")] == expected
    assert report.event_weights == {"purchase": 5, "cart": 2, "view": 1}
    assert report.renamed_types == names
    assert report.warnings[-1] == "'weights' has none for the event types 'wish'; they weigh 1"
    init_repo(workspace, tmp_path / "repo")
    settings = Settings(home=workspace.root, feature_repo=tmp_path / "repo")
    definitions = apply_definitions(settings).definitions
    weights = EventWeights(types=(("cart", 2.0), ("purchase", 5.0), ("view", 1.0)))
    assert definitions.spec.weights == weights
    assert FeatureSpec.from_dict(definitions.spec.to_dict()) == definitions.spec
    log = workspace.tables / "interactions.parquet"
    dataset = build_dataset(definitions, log, tmp_path / "datasets", "same")[0]
    assert dataset.spec.weights == weights
    assert dataset.manifest["warnings"] == []
    assert unlike_mapping(weights, report.event_weights) is None
    said = unlike_mapping(weights, {"purchase": 9})
    assert said is not None
    assert "weighs events by {purchase: 9}, the feature repository by {cart: 2, purchase: 5, view: 1}, which" in said


def test_a_type_that_no_event_has_is_named_with_the_one_that_was_meant(bring: Bring) -> None:
    text = mapping("{purchases: 5, view: 1, cart: 1, purchase: 1, wish: 1}").replace("order: p", "orders: p")
    found = bring(text, {"e.csv": EVENTS.replace("order", "buy")}).warnings
    assert found[-2].startswith("'rename' is for the event type 'orders', which no event has; there are 'add', 'buy'")
    assert found[-1] == "'weights' is for the event type 'purchases', which no event has; did you mean 'purchase'?"


def test_weights_by_a_column(bring: Bring, workspace: Workspace, tmp_path: Path) -> None:
    assert bring(mapping("rating"), {"e.csv": EVENTS}).event_weights == "rating"
    written = init_repo(workspace, tmp_path / "repo")[1].read_text()
    assert '"weights": "rating",' in written
    with pytest.raises(ConfigError, match=r"event_type.weights: 'ratings' is no column .* did you mean 'rating'\?"):
        bring(mapping("ratings"), {"e.csv": EVENTS})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{buy: 5}", r"'weights' names the type 'buy', which is renamed; write its new name 'purchase'"),
        ("{purchase: -1}", r"weights.*purchase.*greater than or equal to 0"),
        ("{' cart': 1}", r"blanks around a type never match"),
        ("{}", r"'weights': no type has a weight; write the types, as in"),
    ],
)
def test_mappings_that_are_refused(bring: Bring, said: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bring(mapping(said), {"e.csv": EVENTS})


def test_renaming_in_two_steps_is_refused(bring: Bring) -> None:
    with pytest.raises(ConfigError, match=r"makes 'buy' 'add', and 'add' 'cart'; write the last name for both"):
        bring(mapping().replace("buy: purchase", "buy: add"), {"e.csv": EVENTS})


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("[purchase]", r"view 'h' has the tag weights='\[purchase\]'; write the types"),
        ("{purchase: many}", r"the weight of 'purchase' must be a number of 0 or more, not 'many'"),
        ("{yes: 1}", r"the type True is no text; put it in quotes"),
        ("hour", r"'hour' is no number that an event has"),
    ],
)
def test_tags_that_are_refused(tag: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_weights(tag, "view 'h'")
