"""Former place of :mod:`rf_serving.user_features.fetcher`, for scripts that import it from here."""

from rf_serving.user_features.fetcher import FeatureFetcher

__all__ = ["FeatureFetcher"]
