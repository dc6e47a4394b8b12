"""Search latency: the index family on catalogs of up to ten million items."""
