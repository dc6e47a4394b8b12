"""Order of the items that the search finds: policy, stage and the LIME re-ranker."""
