"""Experiments, simulated with known effects: false alarms, coverage and power of what `rf experiment` concludes."""
