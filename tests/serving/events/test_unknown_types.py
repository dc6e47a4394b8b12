"""An event of a type that the imported interactions do not have is recorded with a note."""

from rf_platform.data.event_log import Event, EventWindow
from rf_platform.features.dtype import Dtype
from rf_platform.features.spec import EntitySpec, FeatureSpec
from rf_serving.events.reader import Columns, EventReader

SPEC = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(),
    domains=(),
    history_length=5,
)


def doubt(event_type: str, *known: str) -> str:
    reader = EventReader(SPEC, Columns(dtypes={"event_type": Dtype("String")}, types=known), EventWindow())
    event = Event(event_id="e", user_id="u", item_id="i", timestamp_us=1, values={"event_type": event_type})
    return reader.doubt(event)


def test_the_type_that_was_meant_is_named() -> None:
    said = doubt("purchse", "view", "purchase")
    assert said == "values[\"event_type\"]: 'purchse' is no type of the imported interactions; did you mean purchase?"


def test_known_types_and_the_default_are_in_order() -> None:
    assert doubt("view", "view", "purchase") == ""
    assert doubt("interaction", "view") == ""
    assert doubt("anything") == ""  # nothing is known of the log's types
