"""Robustness: random and malformed requests to every method."""
