"""Feature services: the model is trained on `retrieval` and the server reads it, unless RF_FEATURE_SERVICE names another."""

from context import interaction_context
from feast import FeatureService
from items import item_attributes, item_text
from users import user_profile

retrieval = FeatureService(name="retrieval", features=[item_attributes, user_profile, interaction_context])

# The same, and codes of what is known of an item as one more feature (docs/text.md).
retrieval_semantic = FeatureService(
    name="retrieval_semantic",
    features=[item_attributes, user_profile, interaction_context],
    tags={"semantic_ids": "3x64"},
)

# The first, and titles as text: needs the extra `text`.
retrieval_text = FeatureService(
    name="retrieval_text", features=[item_attributes, item_text, user_profile, interaction_context]
)
