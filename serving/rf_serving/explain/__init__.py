"""Explanations: the causes of each item's score."""

from rf_serving.explain.explainer import Explainer, explain_popular

__all__ = ["Explainer", "explain_popular"]
