"""Commands of the training layer."""
