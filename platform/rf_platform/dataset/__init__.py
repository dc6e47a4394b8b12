"""Datasets: point-in-time training data, built with DuckDB and read by memory map."""

from rf_platform.dataset.dataset import Dataset, Sequences

__all__ = ["Dataset", "Sequences"]
