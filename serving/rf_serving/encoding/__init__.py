"""Encoding of requests: from features to the vectors that the index is searched with."""
