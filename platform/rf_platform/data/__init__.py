"""Data: adapters that bring interactions, items and users into a workspace, checked, as Parquet tables."""
