"""Compaction of a live catalog: a new base with an index of its own, built by another process."""
