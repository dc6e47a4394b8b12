"""The catalog that is served: a bundle's items and what changed since it was built."""
