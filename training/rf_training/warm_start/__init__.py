"""Training that goes on from a bundle, on newer data with more values."""
