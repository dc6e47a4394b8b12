"""The feature service `retrieval`: what the model is trained on and what the server reads."""

from context import interaction_context
from feast import FeatureService
from items import item_attributes
from users import user_profile

retrieval = FeatureService(name="retrieval", features=[item_attributes, user_profile, interaction_context])
