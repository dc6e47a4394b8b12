"""Benchmarks of the serving path, run by ``rf bench``."""
