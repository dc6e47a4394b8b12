"""Refresh of what is served: from new data to a promoted bundle, step by step."""
