"""How soon a change of the catalog is searchable everywhere."""
