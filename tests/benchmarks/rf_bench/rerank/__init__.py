"""``rf bench rerank``: what a re-ranker costs a request."""
