"""Time until a change of the catalog is searchable everywhere."""
