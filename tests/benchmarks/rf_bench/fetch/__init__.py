"""Reads of the online store, beside Feast's own call."""
