"""Commands of the serving layer."""
