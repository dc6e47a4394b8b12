"""Former place of :mod:`rf_serving.user_features.online_rows`, for scripts that import it from here."""

from rf_serving.user_features.online_rows import OnlineRows, plain

__all__ = ["OnlineRows", "plain"]
