"""Filtered search: what it costs and what it finds, at falling shares of eligible items."""
