"""Explanations: the causes of each item's score."""

from rf_serving.explain.explainer import Explainer
from rf_serving.explain.popular import explain_popular

__all__ = ["Explainer", "explain_popular"]
