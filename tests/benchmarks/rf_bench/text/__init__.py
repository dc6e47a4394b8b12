"""``rf bench text``: sentence encoders and their cache."""
