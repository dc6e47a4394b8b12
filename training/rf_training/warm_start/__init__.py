"""Warm start: training from a bundle's weights, on newer data with more values."""
