"""Features that the feature store offers now, some of which a bundle may be older than.

Callers do not know which bundle answers them. Where two share the users, after a rollback, and before a model is trained with a
new field, its values are checked by the store's definitions, and the bundle does without them.
"""

from collections.abc import Mapping

from rf_platform.features.field_rule import FieldRule, rules_of
from rf_platform.features.meanings import MeaningRule
from rf_platform.features.spec import FeatureSpec
from rf_serving.catalog.item_schema import ItemSchema


class OfferedFeatures:
    """The features of the definitions that a server read last; its bundles share it, and every load renews it."""

    def __init__(self) -> None:
        self.profile: Mapping[str, FieldRule] = {}
        """Rule of each user feature, by full name."""
        self.context: Mapping[str, FieldRule] = {}
        """Rule of each context feature of one interaction, by full name; times come with the interactions."""
        self.columns: Mapping[str, str] = {}
        """Column of the interaction log that each context feature keeps, by full name."""
        self.meanings: tuple[MeaningRule, ...] | None = None
        """Rules for the meaning of events; None before the definitions were read."""
        self.items: ItemSchema | None = None
        """Features and display fields of items; None before the definitions were read."""

    def renew(self, spec: FeatureSpec) -> None:
        """Replace the definitions by the present ones."""
        context = [f for f in spec.inputs("context") if f.kind != "timestamp"]
        self.profile, self.context = (rules_of(fields, {}, {}) for fields in (spec.inputs("user"), context))
        self.columns = {f.name: str(f.of) for f in spec.history}
        self.meanings = spec.meanings
        self.items = ItemSchema(spec, {})
