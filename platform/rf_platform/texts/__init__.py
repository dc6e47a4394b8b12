"""Texts of items as dense vectors: sentence encoders, their cache, and whitening."""
